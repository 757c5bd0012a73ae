"""Which versions of the specification are read."""

OLDEST_SPEC, NEWEST_SPEC = "1.0.0", "1.3.0"
