"""The benchmark: pyruntime against the bare kernel work, crun and runc, interleaved (`python -m bench --help`)."""
