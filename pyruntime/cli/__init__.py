"""The OCI command line, as engines call it: `pyruntime create`, `start`, `state`, `kill`, `delete` and what runc has besides.

One process per command, so what a command does not need is not imported.
"""
