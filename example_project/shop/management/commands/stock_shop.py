"""``manage.py stock_shop``."""

from typing import Any

from django.core.management.base import BaseCommand

from example_project.shop.catalogue import PRODUCTS, stock


class Command(BaseCommand):
    """Fill the shelves."""

    help = "Put the shop's products on the shelves (safe to repeat)."

    def handle(self, *args: Any, **options: Any) -> None:
        """Stock the shop and say so."""
        stock()
        self.stdout.write(f"{len(PRODUCTS)} products are on the shelves.")
