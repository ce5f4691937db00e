"""The shop's side of the payment gateway."""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

#: Seconds to wait for the gateway. Short on purpose: ``charge`` is atomic, and on SQLite its
#: transaction keeps every other writer waiting meanwhile.
TIMEOUT = 0.5


class GatewayError(Exception):
    """Something is wrong with the gateway or with what it was asked."""


class GatewayDown(GatewayError):
    """The gateway did not answer, or asks to be tried again later. It may have charged or not."""


class GatewayRefused(GatewayError):
    """The gateway understood and said no: asking again will not help."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """The gateway's word that it took the money, once."""

    charge_id: str
    amount: Decimal


def take(reference: str, amount: Decimal, *, key: str) -> Receipt:
    """Charge a customer.

    Args:
        reference: the order's number.
        amount: how much, in the shop's currency.
        key: idempotency key. The gateway charges once per key, however often it is asked.

    Returns:
        The receipt; asking again with the same key returns the same one.

    Raises:
        GatewayDown: no answer within `TIMEOUT` seconds, a lost connection, or a server error.
        GatewayRefused: the request itself was turned down.
    """
    body = {"reference": reference, "amount": str(amount)}
    answer = _ask("POST", "/charges", body, {"Idempotency-Key": key})
    return Receipt(charge_id=answer["id"], amount=Decimal(answer["amount"]))


def charges() -> dict[str, int]:
    """Ask the gateway how many charges it made for each reference.

    Raises:
        GatewayDown: it does not answer.
    """
    return {str(name): int(n) for name, n in _ask("GET", "/charges")["charges"].items()}


def set_mood(**mood: object) -> None:
    """Make the gateway behave better or worse, as in ``set_mood(outage=True)``.

    Raises:
        GatewayDown: it does not answer.
        GatewayRefused: it knows no such mood.
    """
    _ask("PUT", "/mood", mood)


def _ask(
    method: str,
    path: str,
    body: Mapping[str, object] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Any:
    address = urlsplit(settings.SHOP_GATEWAY_URL)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TIMEOUT)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, headers or {})
        response = connection.getresponse()
        answer = json.loads(response.read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise GatewayDown(f"no answer from the gateway: {error!r}") from error
    finally:
        connection.close()
    if response.status >= 500:
        raise GatewayDown(f"the gateway answered {response.status}: {answer.get('error')}")
    if response.status >= 400:
        raise GatewayRefused(f"the gateway answered {response.status}: {answer.get('error')}")
    return answer
