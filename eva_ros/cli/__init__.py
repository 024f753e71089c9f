"""The `eva` command, one module per sub-command."""
