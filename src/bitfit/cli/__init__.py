"""The command line: one sub-command for each library function."""
