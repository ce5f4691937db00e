"""Bugs planted on purpose, to show that the tests can fail: ``python -m tests.planted``."""
