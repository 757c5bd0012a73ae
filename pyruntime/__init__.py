"""OCI containers from Python without a runtime binary."""
