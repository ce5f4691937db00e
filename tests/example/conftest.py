"""A stocked shop and a gateway to pay at."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from example_project.gateway.mood import Mood, Moody
from example_project.gateway.server import Gateway
from example_project.shop.catalogue import stock
from example_project.shop.models import Order, Product
from example_project.shop.orders import place_order

HONEST = Mood(busy=0, drop=0, hang=0)


@pytest.fixture
def make_gateway(settings: Any, tmp_path: Path) -> Iterator[Callable[[Mood], Gateway]]:
    """Return a function that starts a gateway in the given mood and makes the shop use it."""
    started: list[tuple[Gateway, threading.Thread]] = []

    def make(mood: Mood = HONEST) -> Gateway:
        gateway = Gateway(("127.0.0.1", 0), tmp_path / "gateway.sqlite3", Moody(mood, seed=1))
        gateway.daemon_threads = False  # so that closing it waits for its answers
        thread = threading.Thread(target=gateway.serve_forever, args=(0.01,))
        thread.start()
        started.append((gateway, thread))
        settings.SHOP_GATEWAY_URL = f"http://127.0.0.1:{gateway.server_port}"
        return gateway

    yield make
    for gateway, thread in started:
        gateway.shutdown()
        thread.join()
        gateway.server_close()


@pytest.fixture
def gateway(make_gateway: Callable[..., Gateway]) -> Gateway:
    """Return an honest gateway that the shop uses."""
    return make_gateway()


@pytest.fixture
def shop(db: None, settings: Any, tmp_path: Path) -> dict[str, Product]:
    """Stock the shelves, give the shop an outbox, and return the products by slug."""
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = tmp_path / "mail"
    # Only the page tests send requests; the pages are the example project's.
    settings.ROOT_URLCONF = "example_project.urls"
    stock()
    return {product.slug: product for product in Product.objects.all()}


@pytest.fixture
def order(shop: dict[str, Product]) -> Order:
    """Return an order of one pen."""
    return place_order("ada@example.com", {shop["pen"]: 1})
