"""Measures reliable_tasks against plain Celery on one machine: ``python -m benchmarks``."""
