"""Rows by which tests see what tasks did."""

from django.db import models


class Item(models.Model):
    """Something of the caller's, saved in the transaction that enqueues."""

    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Effect(models.Model):
    """One effect of one attempt; nothing here is unique, so that a second effect shows."""

    name = models.CharField(max_length=100)
    entry_id = models.UUIDField(null=True)
    attempt = models.IntegerField(default=0)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"{self.name} by attempt {self.attempt}"
