"""The account says no whenever there is something wrong."""

from collections import Counter
from dataclasses import replace
from decimal import Decimal

import pytest

from example_project.demo.customers import Crowd
from example_project.demo.report import demo_findings
from example_project.shop import tasks
from example_project.shop.account import DeadEntry, Evidence, audit, is_right
from example_project.shop.evidence import collect
from example_project.shop.models import Invoice, Payment

ONCE = Counter({1: 1, 2: 1})
DEAD = DeadEntry(id="e", task="shop.charge", order=9, crashes=3, reason="3 crashes")
RIGHT = Evidence(
    orders=frozenset({1, 2}),
    poisoned=frozenset({9}),
    payments=ONCE,
    invoices=ONCE,
    confirmations=ONCE,
    letters=ONCE,
    charges=ONCE,
    dead=(DEAD,),
    retried=1,
    rescued=1,
)
COUNTED = ("payments", "invoices", "confirmations", "charges")


def wrong(evidence):
    """Return the subjects that an account complains of."""
    return [finding.subject for finding in audit(evidence) if not finding.right]


def test_all_in_order_is_right():
    """Each order paid, billed and confirmed once, the poison dead: nothing to complain of."""
    assert is_right(audit(RIGHT))


@pytest.mark.parametrize("field", COUNTED)
def test_one_too_many_is_wrong(field):
    """A second payment, invoice, confirmation or charge of one order is found and named."""
    evidence = replace(RIGHT, **{field: ONCE + Counter({2: 1})})

    (finding,) = [finding for finding in audit(evidence) if not finding.right]
    assert "several for #2" in finding.detail


@pytest.mark.parametrize("field", [*COUNTED, "letters"])
def test_one_missing_is_wrong(field):
    """A missing payment, invoice, confirmation, charge or e-mail is found and named."""
    evidence = replace(RIGHT, **{field: Counter({1: 1})})

    (finding,) = [finding for finding in audit(evidence) if not finding.right]
    assert "none for #2" in finding.detail


@pytest.mark.parametrize("field", [*COUNTED, "letters"])
def test_a_poisoned_order_must_leave_nothing(field):
    """Money, paper or mail for an order that kills its process is wrong."""
    assert wrong(replace(RIGHT, **{field: ONCE + Counter({9: 1})}))


def test_an_email_may_come_twice():
    """A second e-mail of one order is told, but it breaks no promise."""
    findings = audit(replace(RIGHT, letters=Counter({1: 1, 2: 2})))

    assert is_right(findings)
    assert any("1 sent again" in finding.detail for finding in findings)


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"charges": None}, "charges at the gateway"),
        ({"wrong_amounts": 1}, "wrong amounts"),
        ({"unfinished": 1}, "unfinished entries"),
        ({"dead": (DEAD, replace(DEAD, order=1))}, "other dead entries"),
        ({"dead": ()}, "poison orders"),
        ({"dead": (DEAD, DEAD)}, "poison orders"),
        ({"dead": (replace(DEAD, reason=""),)}, "poison orders"),
        ({"dead": (replace(DEAD, crashes=0),)}, "poison orders"),
    ],
)
def test_every_other_fault_has_its_line(changes, subject):
    """Each fault is reported by exactly the line that is about it."""
    assert wrong(replace(RIGHT, **changes)) == [subject]


def test_no_orders_prove_nothing():
    """An account of no orders is not right."""
    assert "orders" in wrong(Evidence(orders=frozenset(), charges=Counter()))


@pytest.fixture
def settled(order, gateway):
    """Return an order that was carried out."""
    for task in (tasks.charge, tasks.make_invoice, tasks.send_confirmation):
        task.apply((order.pk,), throw=True)
    return order


def lines(subjects):
    """Leave out what running tasks in process leaves behind: entries that nobody works on."""
    return [subject for subject in subjects if subject != "unfinished entries"]


def test_the_evidence_of_a_settled_order_is_right(settled):
    """What is collected from the tables, the outbox and the gateway agrees."""
    assert lines(wrong(collect())) == []


def test_a_planted_second_payment_is_found(settled):
    """A duplicate row in the payments table turns the account wrong."""
    Payment.objects.create(order=settled, amount=settled.total, charge_id="planted")

    assert lines(wrong(collect())) == ["payments"]


def test_a_removed_invoice_is_found(settled):
    """A row missing from the invoices table turns the account wrong."""
    Invoice.objects.all().delete()

    assert lines(wrong(collect())) == ["invoices"]


def test_a_wrong_amount_is_found(settled):
    """A payment that is not the order's total turns the account wrong."""
    Payment.objects.update(amount=Decimal("0.01"))

    assert lines(wrong(collect())) == ["wrong amounts"]


def test_a_second_charge_at_the_gateway_is_found(settled, gateway):
    """A charge that the shop knows nothing of turns the account wrong."""
    gateway.book.charge("another key", str(settled.pk), str(settled.total))

    assert lines(wrong(collect())) == ["charges at the gateway"]


def test_a_silent_gateway_leaves_the_account_open(settled, settings):
    """Without the gateway's book there is nothing to compare with."""
    settings.SHOP_GATEWAY_URL = "http://127.0.0.1:9"

    assert lines(wrong(collect())) == ["charges at the gateway"]


@pytest.mark.parametrize(
    ("placed", "changes", "complaints"),
    [
        ({1, 2, 9}, {}, []),
        ({1, 2}, {}, ["placed over HTTP"]),
        ({1, 2, 3}, {}, ["placed over HTTP"]),
        ({1, 2, 9}, {"retried": 0}, ["retried"]),
        ({1, 2, 9}, {"rescued": 0}, ["rescued"]),
    ],
)
def test_the_demo_checks_that_it_demonstrated_something(placed, changes, complaints):
    """Orders that got lost over HTTP, and blows that hit nothing, turn the demo's account wrong."""
    crowd = Crowd(port=9, orders=2, seconds=1)
    crowd.placed = placed

    findings = demo_findings(crowd, replace(RIGHT, **changes))

    assert [finding.subject for finding in findings if not finding.right] == complaints
