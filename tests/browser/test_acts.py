"""Each act as a person does it: from the page where it is wished to what the ledger has then."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import pytest

from reliable_tasks import ledger, overview
from reliable_tasks.failure import Failure
from reliable_tasks.models import Entry, Key, OperatorAct, Pause, TouchedEntry
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.app.once_tasks import square

LIST = "/admin/reliable_tasks/entry/"
DEAD = "/admin/reliable_tasks/deadletter/"
TIMES = "\N{MULTIPLICATION SIGN}"
EVIL = "<script>document.title = 'owned'</script>"


def die(error="app.errors.GatewayDown", message="503", *, fingerprint="0123456789abcdef", **given):
    """Write an entry that died a minute ago."""
    at = overview.now() - timedelta(minutes=1)
    held = entries.running(now=at, **given)
    failure = Failure(error, message, "Traceback (most recent call last):\n  …", fingerprint)
    ledger.bury(held, failure, Outcome.FAILED, reason="Not retried.", now=at)
    return held.entry


def select(page, *ids):
    for pk in ids:
        page.locator(f'input[name="_selected_action"][value="{pk}"]').check()


def choose(page, action):
    page.locator('select[name="action"]').select_option(action)
    page.locator('button[name="index"]').click()


def confirm(page, label, reason="The gateway is back."):
    """Fill the reason in and press the button of an act's page."""
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name=label, exact=True).click()
    page.locator(".messagelist").wait_for()


def said(page):
    return [text.strip() for text in page.locator(".messagelist li").all_inner_texts()]


def touched(act):
    return set(TouchedEntry.objects.filter(act=act).values_list("entry_id", "result"))


def test_requeue_the_selected(page):
    """Who selects dead letters and confirms with a reason has them requeued, and on record."""
    first, second, third = die(), die(), die()
    page.goto(f"{LIST}?state=dead")
    select(page, first, second)
    choose(page, "requeue")
    page.get_by_text("Requeue: 2 entries.").wait_for()
    assert [entries.state(pk) for pk in (first, second)] == ["dead", "dead"]
    confirm(page, "Requeue")
    assert said(page) == ["Requeued 2 entries."]
    assert [entries.state(pk) for pk in (first, second, third)] == ["pending", "pending", "dead"]
    assert entries.row(first).reason == "Requeued by root in the admin: The gateway is back."
    (act,) = OperatorAct.objects.all()
    assert (act.act, act.by, act.reason) == ("requeue", "root in the admin", "The gateway is back.")
    assert (act.done, act.skipped) == (2, 0)
    assert touched(act) == {(first, "requeued"), (second, "requeued")}


def test_a_reason_is_needed(page):
    """Without a reason nothing happens, and the page says what is missing."""
    dead = die()
    page.goto(f"{LIST}{dead}/change/")
    page.get_by_role("link", name="Requeue…", exact=True).click()
    page.get_by_role("button", name="Requeue", exact=True).click()
    page.get_by_text("This field is required.").wait_for()
    assert entries.state(dead) is State.DEAD
    assert not OperatorAct.objects.exists()


def test_requeue_a_group(page):
    """A group of dead letters is requeued as a whole, and only it."""
    group = [die() for _ in range(3)]
    other = die("app.errors.CardDeclined", "no", fingerprint="f" * 16)
    page.goto(DEAD)
    page.get_by_role(
        "heading", name=f"3 {TIMES} GatewayDown in tests.app.tasks.add since"
    ).wait_for()
    page.get_by_role("link", name="Requeue all 3…").click()
    confirm(page, "Requeue")
    assert said(page) == ["Requeued 3 entries."]
    assert {entries.state(pk) for pk in group} == {"pending"}
    assert entries.state(other) is State.DEAD
    assert page.get_by_role("heading", name=f"1 {TIMES} CardDeclined").count() == 1


def test_requeue_spread_over_a_time(page):
    """A requeue that is spread over ten minutes gives each entry its own due time in them."""
    group = [die() for _ in range(4)]
    page.goto(DEAD)
    page.get_by_role("link", name="Requeue all 4…").click()
    page.get_by_label("spread evenly over so many minutes").check()
    page.get_by_role("button", name="Requeue", exact=True).click()
    page.get_by_text("How many minutes?").wait_for()
    page.get_by_label("Minutes:").fill("10")
    confirm(page, "Requeue")
    due = sorted(entries.row(pk).due_at for pk in group)
    steps = [(b - a).total_seconds() for a, b in pairwise(due)]
    assert steps == pytest.approx([150] * 3, abs=1)


def test_requeue_with_other_arguments(page):
    """Arguments that the task does not take are refused; those that it takes are kept and run."""
    dead = die(args="[1, 2]")
    page.goto(f"{LIST}{dead}/change/")
    page.get_by_role("link", name="Requeue with other arguments…").click()
    page.get_by_label("Positional arguments").fill("[1, 2, 3]")
    page.get_by_label("Reason").fill("Two is wrong.")
    page.get_by_role("button", name="Requeue with other arguments").click()
    page.get_by_text("The task does not take these").wait_for()
    assert entries.row(dead).args == [1, 2]
    page.get_by_label("Positional arguments").fill("[1, 20]")
    confirm(page, "Requeue with other arguments", "Two is wrong.")
    row = entries.row(dead)
    assert (row.state, row.args) == (State.PENDING, [1, 20])


def test_cancel_all_that_match(page):
    """All that match the filters are cancelled, or asked to stop; the others are left alone."""
    waiting = [entries.enqueue(queue="mail", now=None) for _ in range(2)]
    running = entries.running(queue="mail", now=None).entry
    other = entries.enqueue(now=None)
    page.goto(f"{LIST}?queue=mail")
    page.get_by_role("link", name="Cancel all that match…").click()
    page.get_by_text("Cancel: 3 entries.").wait_for()
    confirm(page, "Cancel", "Sent by hand.")
    assert said(page) == ["Cancelled 2 entries.", "Asked 1 running attempt to stop."]
    assert {entries.state(pk) for pk in waiting} == {"cancelled"}
    assert entries.row(running).cancel_requested_at is not None
    assert entries.state(other) is State.PENDING


def test_discard_one(page):
    """A discarded dead letter is cancelled with its reason, and its page tells who did it."""
    dead = die()
    page.goto(f"{LIST}{dead}/change/")
    page.get_by_role("link", name="Discard…").click()
    confirm(page, "Discard", "The customer left.")
    assert entries.state(dead) is State.CANCELLED
    assert page.url.endswith(f"{dead}/change/")
    page.get_by_role("link", name="Discarded by root in the admin").click()
    page.get_by_text("The customer left.").first.wait_for()
    link = page.locator("#content").get_by_role("link", name="tests.app.tasks.add")
    assert link.get_attribute("href") == f"{LIST}{dead}/change/"


def test_release_a_key(page):
    """A key is released from the page of its holder, which goes on; an equal call is enqueued."""
    holder = square.apply_async((7,), countdown=600).id
    page.goto(f"{LIST}{holder}/change/")
    page.get_by_text("(held by this entry)").wait_for()
    page.get_by_role("link", name="Release the keys…").click()
    page.get_by_text("Release the keys: 1 entry.").wait_for()
    assert Key.objects.get().entry_id == UUID(holder)
    confirm(page, "Release the keys", "It hangs.")
    assert said(page) == ["Released 1 key."]
    page.get_by_text("(free: nobody holds it)").wait_for()
    page.get_by_text("Key released by root in the admin").first.wait_for()
    assert entries.state(UUID(holder)) is State.PENDING
    (act,) = OperatorAct.objects.all()
    assert (act.act, act.reason) == ("release key", "It hangs.")
    assert touched(act) == {(UUID(holder), "key released")}
    assert square.apply_async((7,), countdown=600).id != holder


def test_what_changed_meanwhile_is_left_alone(page):
    """An entry that somebody else requeued, and that died anew, is not touched by an old page."""
    changed, same = die(), die()
    page.goto(DEAD)
    page.get_by_role("link", name="Discard all 2…").click()
    page.get_by_label("Reason").fill("Old.")
    ledger.requeue([changed])
    held = entries.claim(changed, now=None)
    entries.bury(held, now=None)
    page.get_by_role("button", name="Discard", exact=True).click()
    page.locator(".messagelist").wait_for()
    discarded, left = said(page)
    assert discarded == "Discarded 1 entry."
    assert left.startswith("1 entry was left alone")
    assert [entries.state(changed), entries.state(same)] == ["dead", "cancelled"]


def test_pause_and_resume_a_queue(page):
    """A queue is paused with a reason and an end, and resumed; both are on record."""
    entry = entries.enqueue(queue="mail", now=None)
    page.goto("/admin/reliable_tasks/pause/")
    page.get_by_role("link", name="Pause a queue or a task").click()
    page.get_by_label("Its name").fill("mail")
    page.get_by_label("For so many minutes").fill("30")
    page.get_by_label("Reason").fill("The mail server is down.")
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("queue mail: 1 entry waits there now").wait_for()
    assert not Pause.objects.exists()
    confirm(page, "Pause", "The mail server is down.")
    assert said(page) == ["Paused mail."]
    (pause,) = Pause.objects.all()
    assert (pause.kind, pause.name, pause.by) == ("queue", "mail", "root in the admin")
    assert pause.ends_at - pause.paused_at == pytest.approx(
        timedelta(minutes=30), abs=timedelta(seconds=5)
    )
    assert ledger.claim(entry, "w", lease=10) is None
    page.goto(f"{LIST}{entry}/change/")
    page.get_by_role("link", name="Resume…").click()
    page.get_by_text("1 entry waits there now").wait_for()
    confirm(page, "Resume", "It is up.")
    assert not Pause.objects.exists()
    assert ledger.claim(entry, "w", lease=10) is not None
    assert list(OperatorAct.objects.order_by("pk").values_list("act", "reason")) == [
        ("pause", "The mail server is down."),
        ("resume", "It is up."),
    ]


def test_many_are_an_operation_that_can_be_paused_and_stopped(page, monkeypatch):
    """What is more than fits a request becomes an operation, with its reins on its page."""
    from reliable_tasks.admin import confirming

    monkeypatch.setattr(confirming, "AT_ONCE", 2)
    for _ in range(3):
        die()
    page.goto(DEAD)
    page.get_by_role("link", name="Requeue all 3…").click()
    page.get_by_text("this is done in the background").wait_for()
    page.get_by_label("At most so many a second").fill("5")
    confirm(page, "Requeue")
    page.get_by_text("0 done, 0 left alone, of 3").first.wait_for()
    page.get_by_role("link", name="Pause", exact=True).click()
    confirm(page, "Pause the operation")
    page.get_by_role("link", name="Resume", exact=True).click()
    confirm(page, "Resume the operation")
    page.get_by_role("link", name="Pause", exact=True).wait_for()
    page.get_by_role("link", name="Stop for good").click()
    page.get_by_text("It cannot be resumed").wait_for()
    confirm(page, "Stop for good")
    page.get_by_text("Done.").wait_for()
    assert page.get_by_role("link", name="Stop for good").count() == 0
    assert Entry.objects.filter(state=State.DEAD).count() == 3
    targets = OperatorAct.objects.order_by("pk").values_list("target", flat=True)
    assert [target.partition(" ")[0] for target in targets][1:] == ["pause", "resume", "stop"]


def test_whoever_may_only_look_is_offered_nothing(open_browser, staff):
    """Staff that may only view sees every page and no way to change anything."""
    dead = die()
    entries.enqueue()
    kinds = ("entry", "operation", "operatoract", "pause", "workerprocess")
    page = open_browser(staff(*(f"view_{kind}" for kind in kinds)))
    for address in (LIST, DEAD, f"{LIST}{dead}/change/", "/admin/reliable_tasks/pause/"):
        page.goto(address)
        offered = page.locator("#content a, #content button").all_inner_texts()
        assert [text for text in offered if text.endswith("…")] == []
        assert page.locator('select[name="action"]').count() == 0


def test_nothing_that_a_task_says_is_markup(page):
    """Names, arguments and messages of a task are text on every page, whatever they contain."""
    dead = die(message=EVIL, task=EVIL, queue=EVIL, args='["</dl><script>x()</script>"]')
    for address in (LIST, DEAD, f"{LIST}{dead}/change/", f"{LIST}act/requeue/?id={dead}"):
        page.goto(address)
        assert page.title() != "owned"
        assert page.locator("#content script:not([src])").count() == 0


def test_an_act_by_keyboard_alone(page):
    """A dead letter is requeued without a mouse."""
    dead = die()
    page.goto(f"{LIST}{dead}/change/")
    page.get_by_role("link", name="Requeue…", exact=True).focus()
    page.keyboard.press("Enter")
    page.get_by_label("Reason").wait_for()
    focused = []
    for _ in range(60):
        page.keyboard.press("Tab")
        focused.append(page.evaluate("document.activeElement.name || ''"))
        if focused[-1] == "reason":
            page.keyboard.type("By keyboard.")
            break
    for _ in range(10):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.type") == "submit":
            break
    page.keyboard.press("Enter")
    page.locator(".messagelist").wait_for()
    assert entries.state(dead) is State.PENDING


@pytest.mark.parametrize(
    "address",
    [LIST, DEAD, f"{LIST}act/requeue/?state=dead", "/admin/reliable_tasks/pause/pause/"],
    ids=["list", "dead", "act", "pause"],
)
def test_every_control_has_a_name(page, address):
    """Whoever cannot see a page is told what each of its fields, buttons and links is."""
    die()
    page.goto(address)
    nameless = page.evaluate(
        """() => [...document.querySelector('#content').querySelectorAll(
            'input:not([type=hidden]), select, button, a[href], textarea'
        )].filter(each => !(
            (each.labels && each.labels.length) || each.getAttribute('aria-label') || each.title
            || each.textContent.trim() || (each.type === 'submit' && each.value)
            || each.closest('label')
        )).map(each => each.outerHTML)"""
    )
    assert nameless == []
