"""Rows by which tests see what tasks did."""

from uuid import uuid4

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


# -- what model parameters meet -------------------------------------------------------------------


class ItemProxy(Item):
    """The same rows under another class."""

    class Meta:
        proxy = True


class Document(models.Model):
    """A key that is there before the row is."""

    id = models.UUIDField(primary_key=True, default=uuid4)
    title = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.title


class Chapter(models.Model):
    """Something with a relation to join and a relation to prefetch."""

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="chapters")
    number = models.IntegerField()

    def __str__(self) -> str:
        return str(self.number)


class Shelf(models.Model):
    """A composite key."""

    pk = models.CompositePrimaryKey("room", "number")
    room = models.CharField(max_length=20)
    number = models.IntegerField()
    label = models.CharField(max_length=100, default="")

    def __str__(self) -> str:
        return f"{self.room}/{self.number}"


class Place(models.Model):
    """A parent with a table of its own."""

    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Cafe(Place):
    """A child with a table of its own."""

    seats = models.IntegerField(default=2)


class Dated(models.Model):
    """A parent without a table."""

    day = models.DateField()

    class Meta:
        abstract = True


class VisibleTickets(models.Manager["Ticket"]):
    """Leaves out what is hidden."""

    def get_queryset(self) -> models.QuerySet["Ticket"]:
        """Return the rows that are not hidden."""
        return super().get_queryset().filter(hidden=False)


class Ticket(models.Model):
    """A key of text, and a manager that hides rows."""

    code = models.CharField(max_length=300, primary_key=True)
    hidden = models.BooleanField(default=False)

    objects = VisibleTickets()
    everything: models.Manager["Ticket"] = models.Manager()

    def __str__(self) -> str:
        return self.code
