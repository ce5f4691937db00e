"""Customers: they order over HTTP, as browsers do, at a steady pace."""

import http.client
import random
import re
import threading
import time
from urllib.parse import urlencode

PRODUCTS = ("notebook", "pen", "tea", "mug", "lamp")
POISON_TURN = 3  # which order is the poisoned one
_THREADS = 4
_TIMEOUT = 30.0  # seconds for one answer
_ORDER = re.compile(r"/orders/(\d+)/$")


class Crowd:
    """Places a number of orders from several threads; exactly one of them is poison.

    Args:
        port: of the shop, on loopback.
        orders: how many wholesome orders to place; the poisoned one comes on top.
        seconds: over how long a time to spread them.
    """

    def __init__(self, port: int, orders: int, seconds: float) -> None:
        self.total = orders + 1
        self._port = port
        self._pause = seconds / self.total
        self._random = random.Random(orders)
        self._lock = threading.Lock()
        self._turn = 0
        self._begin = 0.0
        self._leave = threading.Event()
        self._threads = [
            threading.Thread(target=self._shop, name=f"customer-{n}", daemon=True)
            for n in range(_THREADS)
        ]
        self.placed: set[int] = set()
        self.failures: list[str] = []

    def start(self) -> None:
        """Let the customers in."""
        self._begin = time.monotonic()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send them away; orders that are being placed are finished."""
        self._leave.set()

    def finished(self) -> bool:
        """Tell whether every order was tried."""
        return not any(thread.is_alive() for thread in self._threads)

    def _shop(self) -> None:
        visit = Visit(self._port)
        while (form := self._next()) is not None:
            try:
                number = visit.order(form)
            except (OSError, http.client.HTTPException, OrderNotTaken) as error:
                visit = Visit(self._port)
                with self._lock:
                    self.failures.append(f"{error!r}")
            else:
                with self._lock:
                    self.placed.add(number)
        visit.leave()

    def _next(self) -> dict[str, str] | None:
        """Wait for the next turn and fill in a form; None when there is nothing more to order."""
        with self._lock:
            turn, self._turn = self._turn, self._turn + 1
            if turn >= self.total:
                return None
            form = self._form(turn)
        wait = self._begin + turn * self._pause - time.monotonic()
        return None if self._leave.wait(max(wait, 0)) else form

    def _form(self, turn: int) -> dict[str, str]:
        form = {"email": f"customer{turn}@example.com"}
        if turn == min(POISON_TURN, self.total - 1):
            return form | {"quantity_poison": "1"}
        chosen = self._random.sample(PRODUCTS, self._random.randint(1, 3))
        return form | {f"quantity_{slug}": str(self._random.randint(1, 4)) for slug in chosen}


class OrderNotTaken(Exception):
    """The shop answered something else than "here is your order"."""


class Visit:
    """One customer's connection to the shop, kept open between orders."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
        self._token = ""

    def order(self, form: dict[str, str]) -> int:
        """Place one order.

        Args:
            form: the fields of the order form.

        Returns:
            The order's number.

        Raises:
            OrderNotTaken: the shop did not take it.
            OSError: the connection broke; so does ``http.client.HTTPException``.
        """
        if not self._token:
            self._token = self._fetch_token()
        body = urlencode(form | {"csrfmiddlewaretoken": self._token})
        headers = {
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": f"csrftoken={self._token}",
        }
        self._connection.request("POST", "/", body, headers)
        response = self._connection.getresponse()
        response.read()
        found = _ORDER.search(response.getheader("Location", ""))
        if response.status != http.client.FOUND or found is None:
            raise OrderNotTaken(f"the shop answered {response.status}")
        return int(found[1])

    def leave(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _fetch_token(self) -> str:
        self._connection.request("GET", "/")
        response = self._connection.getresponse()
        response.read()
        found = re.search(r"csrftoken=(\w+)", response.getheader("Set-Cookie", ""))
        if found is None:
            raise OrderNotTaken(f"the shop answered {response.status} and gave no CSRF token")
        return found[1]
