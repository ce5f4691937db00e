"""The business table of the benchmark."""

from __future__ import annotations

from django.db import models


class Account(models.Model):
    """A row that a request inserts, and that a task reads and updates."""

    balance = models.IntegerField(default=0)

    def __str__(self) -> str:
        return f"account {self.pk}: {self.balance}"
