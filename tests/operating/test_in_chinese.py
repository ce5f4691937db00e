"""Who reads Chinese finds no English sentence on the pages of the admin."""

from __future__ import annotations

import html
import re
from datetime import timedelta
from uuid import UUID

import pytest
from django.urls import reverse
from django.utils import translation

from reliable_tasks import ledger, operations, overview
from reliable_tasks.admin.schedule_acts import ACTS as SCHEDULE_ACTS
from reliable_tasks.failure import Failure
from reliable_tasks.models import Entry, Operation, OperatorAct, Pause
from reliable_tasks.operations import Act, Chosen
from reliable_tasks.oversight import Steps
from reliable_tasks.schedules import operations as schedules
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.app.once_tasks import square
from tests.schedules import making
from tests.test_admin import ago

pytestmark = pytest.mark.django_db

_SKIPPED = re.compile(r"<(script|style|code|pre)\b.*?</\1>|<[^>]+>", re.DOTALL)
#: Three words of letters in a row: names, units and commands are shorter.
_SENTENCE = re.compile(r"(?:[A-Za-z]{2,}[,:]? ){2,}[a-z]{2,}")
#: Data: who acted, as it is on record; a command. And what Django itself has not translated.
_DATA = re.compile(
    r"Change or view list link|manage\.py [\w ]+|\S+ (in the admin|with manage\.py)"
    r"|celery -A [^ ]+ worker"
)
#: A word of the code's own, alone or before a name.
_WORD = re.compile(
    rf"({'|'.join(value for kind in (State, Outcome, Steps, Act) for value in kind)})\b"
)


def english(answer) -> list[str]:
    """Return the English sentences of a page, and the words of the code."""
    assert answer.status_code == 200
    text = html.unescape(_SKIPPED.sub(" \n ", answer.content.decode()))
    lines = (" ".join(_DATA.sub("…", line).split()) for line in text.splitlines())
    return [line for line in lines if _SENTENCE.search(line) or _WORD.match(line)]


def change(kind: str, pk: object) -> str:
    return reverse(f"admin:reliable_tasks_{kind}_change", args=[pk])


@pytest.fixture
def lively():
    """Give the test a ledger in which everything has happened once."""
    made = {state: entries.in_state(state, now=ago(minutes=1)) for state in State}
    held = entries.running(now=ago(minutes=3))
    failure = Failure("shop.GatewayDown", "网关没有响应", "追踪", "f" * 16)
    ledger.bury(held, failure, Outcome.FAILED, reason="不再重试。", now=ago(minutes=2))
    Entry.objects.update(reason="")
    for state, pk in made.items():
        if state in {State.PENDING, State.RUNNING}:
            operations.cancel([pk], "原因。", by="安")
    again = made[State.DEAD]
    operations.requeue([again], "原因。", by="安", arguments=([3, 4], {}))
    operations.discard([held.entry], "原因。", by="安")
    operations.release_keys_of([UUID(square.delay(4).id)], "原因。")
    operations.pause(
        "queue", "celery", "原因。", by="安", ends_at=overview.now() + timedelta(hours=1)
    )
    operations.pause("task", "a.b", "原因。", by="安")
    begun = operations.begin(
        Act.REQUEUE,
        Chosen(states=("dead", "cancelled"), task="tests.app.*", since=ago(hours=1).isoformat()),
        "原因。",
        by="安",
        rate=0.5,
        params={"spread": 60.0},
    )
    operations.set_rate(begun.operation, None, by="安")
    operations.pause_operation(begun.operation, by="安")
    schedule = making.simple("每小时")
    schedules.run_now(schedule, reason="原因。", by="安")
    schedules.reset_runs(schedule, reason="原因。", by="安")
    schedules.pause(schedule, "原因。", by="安")
    return schedule


def addresses(schedule) -> list[str]:
    """Return the addresses of all pages that have words of ours."""
    act = "admin:reliable_tasks_entry_act"
    steer = reverse(
        "admin:reliable_tasks_operation_steer", args=[Operation.objects.latest("pk").pk]
    )
    kinds = ("entry", "deadletter", "operation", "operatoract", "pause", "workerprocess")
    return [
        *(reverse(f"admin:reliable_tasks_{kind}_changelist") for kind in kinds),
        reverse("admin:reliable_tasks_occurrence_changelist"),
        reverse("admin:reliable_tasks_overview_changelist"),
        *(change("entry", pk) for pk in Entry.objects.values_list("pk", flat=True)),
        *(change("operation", pk) for pk in Operation.objects.values_list("pk", flat=True)),
        *(change("operatoract", pk) for pk in OperatorAct.objects.values_list("pk", flat=True)),
        f"{reverse(act, args=['requeue'])}?state=dead&state=cancelled&task=tests.app.*",
        f"{reverse(act, args=['cancel'])}?queue=celery",
        f"{reverse(act, args=['discard'])}?state=dead",
        f"{reverse(act, args=['release'])}?id={Entry.objects.latest('pk').pk}",
        *(f"{steer}?to={to}" for to in ("pause", "resume", "stop")),
        f"{reverse('admin:reliable_tasks_pause_begin')}?kind=queue&name=celery",
        reverse("admin:reliable_tasks_pause_end", args=[Pause.objects.earliest("pk").pk]),
        *(
            reverse("admin:reliable_tasks_schedule_act", args=[schedule.pk, name])
            for name in SCHEDULE_ACTS
        ),
    ]


def test_no_page_has_an_english_sentence(lively, admin_client):
    """Lists, entries, records, operations, and the pages of all acts are in Chinese throughout."""
    with translation.override("zh-hans"):
        found = {
            address: lines
            for address in addresses(lively)
            if (lines := english(admin_client.get(address)))
        }
    assert not found


def test_no_answer_has_an_english_sentence(lively, admin_client):
    """What is said after an act, and why an act was refused, is in Chinese as well."""
    act = reverse("admin:reliable_tasks_entry_act", args=["requeue"])
    waiting = entries.enqueue(now=ago(minutes=1))
    given = {"confirmed": "yes", "reason": "原因。", "when": "now"}
    posts = [
        (act, {**given, "id": str(waiting)}),
        (act, {**given, "q": "x"}),
        (act, {**given, "colour": "red"}),
        (act, {**given, "id": "x"}),
        (act, {**given, "marks": "x"}),
        (act, {**given, "state": "dead", "when": "later"}),
        (reverse("admin:reliable_tasks_pause_begin"), {"name": "", "kind": "queue"}),
        (
            reverse("admin:reliable_tasks_operation_steer", args=[Operation.objects.get().pk]),
            {"to": "rate", "rate": "x"},
        ),
    ]
    with translation.override("zh-hans"):
        found = {
            f"{address} {data}": lines
            for address, data in posts
            if (lines := english(admin_client.post(address, data, follow=True)))
        }
    assert not found


def test_english_is_found():
    """The test above sees a sentence where there is one."""

    class Page:
        status_code = 200
        content = b"<p>root in the admin</p><p>An act goes by filters.</p><code>a b c d</code>"

    assert english(Page()) == ["An act goes by filters."]
