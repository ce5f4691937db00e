"""The gateway misbehaves, but it never charges twice for one key."""

from dataclasses import replace
from decimal import Decimal

import pytest

from example_project.gateway.mood import Mood, Moody, Temper
from example_project.shop import gateway as client
from tests.example.conftest import HONEST

TEN = Decimal("10.00")


def test_a_key_charges_once(gateway):
    """Asking again with the same key returns the same charge and takes nothing."""
    first = client.take("7", TEN, key="k")
    second = client.take("7", TEN, key="k")

    assert first == second
    assert client.charges() == {"7": 1}
    assert gateway.book.repeats() == 1


def test_another_key_charges_again(gateway):
    """Without a stable key the customer pays twice: the book would show it."""
    client.take("7", TEN, key="k1")
    client.take("7", TEN, key="k2")

    assert client.charges() == {"7": 2}


@pytest.mark.parametrize("changed", [("8", TEN), ("7", Decimal("11.00"))])
def test_a_key_belongs_to_one_charge(gateway, changed):
    """A key that comes with another order or amount is refused, for good."""
    client.take("7", TEN, key="k")

    with pytest.raises(client.GatewayRefused, match="409"):
        client.take(*changed, key="k")


def test_a_charge_needs_a_key(gateway):
    """A request without an idempotency key is refused."""
    with pytest.raises(client.GatewayRefused, match="Idempotency-Key"):
        client.take("7", TEN, key="")


def test_a_dropped_answer_is_a_charge_all_the_same(make_gateway):
    """The nasty case: charged, no answer; the next request with the key finds the charge."""
    gateway = make_gateway(replace(HONEST, drop=1))
    with pytest.raises(client.GatewayDown):
        client.take("7", TEN, key="k")
    client.set_mood(drop=0)

    receipt = client.take("7", TEN, key="k")

    assert receipt.amount == TEN
    assert gateway.book.charges() == {"7": 1}


def test_a_late_answer_counts_as_none(make_gateway, monkeypatch):
    """The shop does not wait for a hanging gateway longer than its timeout."""
    monkeypatch.setattr(client, "TIMEOUT", 0.05)
    gateway = make_gateway(replace(HONEST, hang=1))
    gateway.hang_seconds = 0.3

    with pytest.raises(client.GatewayDown):
        client.take("7", TEN, key="k")

    assert gateway.book.charges() == {"7": 1}


def test_an_outage_refuses_everybody_and_charges_nobody(gateway):
    """In an outage every request is answered 503 until the outage ends."""
    client.set_mood(outage=True)
    with pytest.raises(client.GatewayDown, match="503"):
        client.take("7", TEN, key="k")
    assert client.charges() == {}

    client.set_mood(outage=False)
    assert client.take("7", TEN, key="k").amount == TEN


def test_a_gateway_that_is_not_there_is_down(settings):
    """A refused connection is a reason to try again, like any other silence."""
    settings.SHOP_GATEWAY_URL = "http://127.0.0.1:9"

    with pytest.raises(client.GatewayDown):
        client.take("7", TEN, key="k")


@pytest.mark.parametrize("mood", [{"busy": 2}, {"outage": 1}, {"hapy": 0.5}, {"drop": True}])
def test_an_impossible_mood_is_refused(gateway, mood):
    """A share is between 0 and 1, and an unknown mood is named."""
    with pytest.raises(client.GatewayRefused, match="400"):
        client.set_mood(**mood)


def test_tempers_come_in_their_shares():
    """Over many requests each temper is drawn about as often as the mood says."""
    moody = Moody(Mood(busy=0.2, drop=0.1, hang=0.1), seed=1)
    for _ in range(2000):
        moody.draw()

    drawn = moody.drawn()
    assert drawn[Temper.BUSY] == pytest.approx(400, rel=0.2)
    assert drawn[Temper.DROP] == pytest.approx(200, rel=0.3)
    assert drawn[Temper.HANG] == pytest.approx(200, rel=0.3)
