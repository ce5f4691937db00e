"""The test suite of reliable_tasks."""
