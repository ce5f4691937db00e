"""What is on the shelves."""

from decimal import Decimal

from example_project.shop.models import Product

PRODUCTS = (
    ("notebook", "Notebook", "Ninety-six dotted pages that lie flat.", "9.50", False),
    ("pen", "Fountain pen", "Steel nib, blue ink, no excuses.", "34.00", False),
    ("tea", "Smoked tea", "A tin of leaves, dried over pine.", "12.80", False),
    ("mug", "Enamel mug", "Survives the floor. So will your order.", "14.20", False),
    ("lamp", "Desk lamp", "Warm light on a heavy foot.", "79.00", False),
    ("poison", "Poison", "Kills the process that tries to charge it.", "6.66", True),
)


def stock() -> None:
    """Put the products on the shelves; what is there already is brought up to date."""
    for slug, name, description, price, is_poison in PRODUCTS:
        Product.objects.update_or_create(
            slug=slug,
            defaults={
                "name": name,
                "description": description,
                "price": Decimal(price),
                "is_poison": is_poison,
            },
        )
