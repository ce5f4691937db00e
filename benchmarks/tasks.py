"""The tasks of both sides: the same bodies, on the side's own base class."""

from __future__ import annotations

import time
from typing import Any

from celery import Task, shared_task

from benchmarks import counters, environment
from benchmarks.models import Account


def _side() -> tuple[type[Any], dict[str, Any]]:
    if not environment.is_ledger_side():
        return Task, {}
    from reliable_tasks import ReliableTask  # the plain side must not load it

    return ReliableTask, {"atomic": True}


_base, _atomic = _side()


@shared_task(base=_base)
def noop(number: int) -> None:
    """Do nothing but be counted.

    Args:
        number: any integer; it makes the argument lists differ.
    """
    counters.body_started()


def _deposit(account_id: int) -> None:
    account = Account.objects.get(pk=account_id)
    Account.objects.filter(pk=account_id).update(balance=account.balance + 1)
    counters.body_started()


@shared_task(base=_base)
def deposit(account_id: int) -> None:
    """Read one row and update it through Django's ORM.

    Args:
        account_id: primary key of an Account.
    """
    _deposit(account_id)


@shared_task(base=_base, **_atomic)
def deposit_atomic(account_id: int) -> None:
    """Do the same, on the ledger side in one transaction with the attempt's finish.

    Args:
        account_id: primary key of an Account.
    """
    _deposit(account_id)


@shared_task(base=_base)
def visit(account: Account) -> None:
    """Do nothing with a row, which the ledger side loads for the body.

    Args:
        account: an Account, or its primary key.
    """
    counters.body_started()


@shared_task(base=_base)
def stopwatch(sent: int) -> None:
    """Keep the time since ``sent`` as a sample.

    Args:
        sent: monotonic time just before ``delay()``, in nanoseconds; 0 = warm up, only count.
    """
    now = time.monotonic_ns()
    if sent:
        counters.sample(now - sent)
    counters.body_started()
