"""A small Django app with tasks to run."""
