"""Which rows of the specification are proven, by which tests, where: docs/conformance.md and what it is made from."""
