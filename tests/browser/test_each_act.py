"""The acts that ``test_acts`` leaves out, each as a person does it, and what comes of it."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from reliable_tasks import ledger, overview
from reliable_tasks.models import Key, Operation, OperatorAct, Pause
from reliable_tasks.states import State
from tests import entries
from tests.app.once_tasks import square
from tests.browser.test_acts import DEAD, LIST, choose, confirm, die, said, select, touched


def only_act():
    (act,) = OperatorAct.objects.all()
    return act


def test_requeue_later(page):
    """A requeue for later waits in the ledger until then, and its page says so."""
    dead = die()
    page.goto(f"{LIST}{dead}/change/")
    page.get_by_role("link", name="Requeue…", exact=True).click()
    page.get_by_label("all after so many minutes").check()
    page.get_by_label("Minutes:").fill("45")
    before = overview.now()
    confirm(page, "Requeue", "After the maintenance.")
    assert said(page) == ["Requeued 1 entry."]
    row = entries.row(dead)
    assert row.state == State.PENDING
    assert row.due_at - before == pytest.approx(timedelta(minutes=45), abs=timedelta(seconds=30))
    assert ledger.claim(dead, "w", lease=10) is None
    page.get_by_role("heading", name="Why it waits").wait_for()
    act = only_act()
    assert (act.act, act.reason, act.done) == ("requeue", "After the maintenance.", 1)
    assert touched(act) == {(dead, "requeued")}


def test_discard_a_group(page):
    """A group of dead letters is given up as a whole: cancelled, on record, off the page."""
    group = [die() for _ in range(3)]
    other = die("app.errors.CardDeclined", "no", fingerprint="f" * 16)
    page.goto(DEAD)
    page.get_by_role("link", name="Discard all 3…").click()
    page.get_by_text("Discard: 3 entries.").wait_for()
    assert {entries.state(pk) for pk in group} == {State.DEAD}
    confirm(page, "Discard", "Those orders are void.")
    assert said(page) == ["Discarded 3 entries."]
    assert {entries.state(pk) for pk in group} == {State.CANCELLED}
    assert entries.state(other) is State.DEAD
    assert page.get_by_role("link", name="Discard all 3…").count() == 0
    act = only_act()
    assert (act.act, act.by, act.done, act.skipped) == ("discard", "root in the admin", 3, 0)
    assert touched(act) == {(pk, "discarded") for pk in group}


def test_release_the_keys_of_the_selected(page):
    """Of what is selected, the keys are released; of what is not, they are held on."""
    holders = [UUID(square.apply_async((n,), countdown=600).id) for n in range(3)]
    page.goto(f"{LIST}?state=pending")
    select(page, *holders[:2])
    choose(page, "release")
    page.get_by_text("Release the keys: 2 entries.").wait_for()
    assert Key.objects.count() == 3
    confirm(page, "Release the keys", "They hang.")
    assert said(page) == ["Released 2 keys."]
    assert Key.objects.get().entry_id == holders[2]
    assert {entries.state(pk) for pk in holders} == {State.PENDING}
    act = only_act()
    assert (act.act, act.reason) == ("release key", "They hang.")
    assert touched(act) == {(pk, "key released") for pk in holders[:2]}


def test_cancel_one_that_waits(page):
    """What waits is cancelled from its own page, and never runs."""
    entry, other = entries.enqueue(now=None), entries.enqueue(now=None)
    page.goto(f"{LIST}{entry}/change/")
    page.get_by_role("link", name="Cancel…", exact=True).click()
    page.get_by_text("Cancel: 1 entry.").wait_for()
    confirm(page, "Cancel", "Ordered twice.")
    assert said(page) == ["Cancelled 1 entry."]
    assert [entries.state(pk) for pk in (entry, other)] == [State.CANCELLED, State.PENDING]
    assert ledger.claim(entry, "w", lease=10) is None
    page.get_by_role("link", name="Cancelled by root in the admin").wait_for()
    assert touched(only_act()) == {(entry, "cancelled")}


def test_cancel_one_that_runs(page):
    """What runs is asked to stop; its page says who asked, and it goes on until it heeds that."""
    entry = entries.running(now=None).entry
    page.goto(f"{LIST}{entry}/change/")
    page.get_by_role("link", name="Cancel…", exact=True).click()
    confirm(page, "Cancel", "It takes too long.")
    assert said(page) == ["Asked 1 running attempt to stop."]
    assert entries.state(entry) is State.RUNNING
    assert entries.row(entry).cancel_requested_at is not None
    page.get_by_text("Asked to stop by root in the admin").wait_for()


def test_pause_a_task(page):
    """A paused task is not begun on any queue, others are; its entry says why it waits."""
    entry = entries.enqueue(now=None)
    other = entries.enqueue(task="tests.app.tasks.boom", now=None)
    page.goto("/admin/reliable_tasks/pause/pause/")
    page.get_by_label("a task").check()
    page.get_by_label("Its name").fill("tests.app.tasks.add")
    page.get_by_label("Reason").fill("It charges twice.")
    page.get_by_role("button", name="Pause").click()
    page.get_by_text("1 entry waits there now").wait_for()
    assert not Pause.objects.exists()
    assert page.get_by_text("Counted").count() == 0  # what is not to be filled in has no row
    confirm(page, "Pause", "It charges twice.")
    assert said(page) == ["Paused tests.app.tasks.add."]
    (pause,) = Pause.objects.all()
    assert (pause.kind, pause.name, pause.ends_at) == ("task", "tests.app.tasks.add", None)
    assert ledger.claim(entry, "w", lease=10) is None
    assert ledger.claim(other, "w", lease=10) is not None
    page.goto(f"{LIST}{entry}/change/")
    page.get_by_text("It charges twice.").first.wait_for()
    act = only_act()
    assert (act.act, act.reason) == ("pause", "It charges twice.")


def test_set_the_rate_of_an_operation(page, monkeypatch):
    """The rate of an operation is changed on its page; one that is none is refused."""
    from reliable_tasks.admin import confirming

    monkeypatch.setattr(confirming, "AT_ONCE", 2)
    for _ in range(3):
        die()
    page.goto(DEAD)
    page.get_by_role("link", name="Requeue all 3…").click()
    confirm(page, "Requeue")
    rate = page.get_by_label("At most so many a second")
    rate.fill("2.5")
    page.get_by_role("button", name="Set", exact=True).click()
    page.get_by_text("at most 2.5 entries a second").first.wait_for()
    assert Operation.objects.get().rate == 2.5
    rate.fill("")
    page.get_by_role("button", name="Set", exact=True).click()
    page.get_by_text("as fast as it goes").first.wait_for()
    assert Operation.objects.get().rate is None
    rate.fill("-1")
    page.evaluate("document.querySelector('#reliable-tasks-pace').noValidate = true")
    page.get_by_role("button", name="Set", exact=True).click()
    page.get_by_text("The rate must be a number above zero").wait_for()
    assert Operation.objects.get().rate is None


def test_filters_by_time_and_subject_without_scripts(open_browser, staff):
    """Where scripts are off, too, a range of time and a row are typed in, kept, and cleared."""
    about = {"subject_type": "shop.order", "subject_id": "17"}
    wanted = entries.enqueue(now=None, **about)
    entries.enqueue(now=None)
    user = staff("view_entry")
    page = open_browser(user, java_script_enabled=False)
    page.goto(LIST)
    page.get_by_text("By what it is about").click()
    page.get_by_label("Model").fill("order")
    page.get_by_label("Primary key").fill("17")
    form = page.locator("details").filter(has=page.get_by_label("Primary key"))
    form.get_by_role("button", name="Apply").click()
    rows = page.locator("#result_list tbody tr")
    assert rows.count() == 1
    assert page.locator(f'a[href*="{wanted}"]').count() == 1
    page.get_by_text("By enqueued, from and to").click()
    page.get_by_label("From", exact=True).fill("2020-01-01T00:00")
    page.get_by_label("To", exact=True).fill("2020-01-02T00:00")
    form = page.locator("details").filter(has=page.get_by_label("From", exact=True))
    form.get_by_role("button", name="Apply").click()
    assert rows.count() == 0
    assert page.get_by_label("Primary key").input_value() == "17"
    assert page.get_by_label("To", exact=True).input_value().startswith("2020-01-02T00:00")
    form.get_by_role("link", name="Clear").click()
    assert rows.count() == 1


def test_a_search_by_subject(page):
    """What an entry is about is found from the search field, which says how."""
    wanted = entries.enqueue(now=None, subject_type="shop.order", subject_id="17")
    entries.enqueue(now=None)
    page.goto(LIST)
    page.get_by_text("what it is about (order:17").wait_for()
    page.locator("#searchbar").fill("order:17")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=order*")
    assert page.locator("#result_list tbody tr").count() == 1
    page.locator("#result_list tbody a").first.click()
    page.wait_for_url(f"**/{wanted}/change/**")
    page.get_by_role("link", name="all entries about it").click()
    page.wait_for_url("**subject_id=17*")
    assert page.locator("#result_list tbody tr").count() == 1
