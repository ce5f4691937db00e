"""The order form: an e-mail address and a quantity of each product."""

from typing import Any

from django import forms

from example_project.shop.models import Product

MOST = 20  # pieces of one product in one order


class OrderForm(forms.Form):
    """One field ``quantity_<slug>`` for each product on the shelves."""

    email = forms.EmailField(label="E-mail")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.products = list(Product.objects.all())
        for product in self.products:
            self.fields[_name(product)] = forms.IntegerField(
                label=f"Quantity of {product.name}",
                min_value=0,
                max_value=MOST,
                required=False,
                initial=0,
            )

    def clean(self) -> dict[str, Any]:
        """Refuse a form with no product chosen."""
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors and not any(self.quantities().values()):
            raise forms.ValidationError("Choose at least one product.")
        return cleaned

    def quantities(self) -> dict[Product, int]:
        """Return how many pieces of each product were asked for."""
        return {product: self.cleaned_data.get(_name(product)) or 0 for product in self.products}

    def shelves(self) -> list[tuple[Product, forms.BoundField]]:
        """Return each product with its quantity field, in the order of the page."""
        return [(product, self[_name(product)]) for product in self.products]


def _name(product: Product) -> str:
    return f"quantity_{product.slug}"
