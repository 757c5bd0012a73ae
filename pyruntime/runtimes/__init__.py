"""Implementations of the Runtime interface."""
