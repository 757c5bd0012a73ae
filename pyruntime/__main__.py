"""`python -m pyruntime`: the OCI command line."""

from pyruntime.cli.program import run

run()
