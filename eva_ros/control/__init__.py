"""From a chunk to a safe command: checks, time law, hold and the state machine."""
