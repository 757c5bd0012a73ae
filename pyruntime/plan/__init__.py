"""Config to a flat list of operations: pure, printable, comparable."""
