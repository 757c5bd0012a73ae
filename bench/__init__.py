"""The benchmark: pyruntime against the bare kernel work, crun and runc, interleaved in one run. `python -m bench --help`."""
