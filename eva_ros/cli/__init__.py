"""The `eva` command, a file a sub-command."""
