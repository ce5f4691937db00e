"""What the checker reads. Nothing here is unique or refers to anything: every wrong shows."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Order(models.Model):
    """A business row, written in the transaction that enqueues its task."""

    number = models.UUIDField()
    kind = models.TextField()
    not_before = models.DateTimeField(null=True)
    product = models.IntegerField(null=True)
    entry = models.UUIDField(null=True)
    made = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "prove_order"

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"


class Effect(models.Model):
    """What one attempt did for an order."""

    number = models.UUIDField()
    kind = models.TextField()
    entry = models.UUIDField()
    attempt = models.IntegerField()
    pid = models.IntegerField()
    product = models.IntegerField(null=True)
    seen = models.IntegerField(null=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "prove_effect"

    def __str__(self) -> str:
        return f"{self.kind} {self.number} by attempt {self.attempt}"
