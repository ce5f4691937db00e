"""A database router of the tests."""


class LedgerElsewhere:
    """Keeps the ledger on the database "other"."""

    def db_for_read(self, model, **hints):
        return "other" if model._meta.app_label == "reliable_tasks" else None

    db_for_write = db_for_read


class ItemsElsewhere:
    """Send the suite's items to the database `other`."""

    def db_for_write(self, model, **hints):
        """Return the database for a model."""
        return "other" if model.__name__ == "Item" else None
