"""The command line: one thin file a command, printing and nothing else."""
