"""The package's own task, where Celery's autodiscovery looks for tasks."""

from .operations import carry_out

__all__ = ["carry_out"]
