"""The command line, a file for each command: parse, build a configuration, call, print."""
