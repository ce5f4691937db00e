"""Enable, disable and toggle in the list of schedules of the admin, and what a beat makes of it."""

from __future__ import annotations

import pytest
from django.urls import reverse

from reliable_tasks import overview
from tests.schedules.making import DAY, HOUR, MINUTE, T0, Clock, beat, crontab, fired, run, schedule

pytestmark = pytest.mark.django_db


@pytest.fixture
def clock(monkeypatch, flush_broker):
    """Give the test a clock that the admin goes by, too."""
    made = Clock()
    monkeypatch.setattr(overview, "now", made)
    return made


@pytest.fixture
def choose(admin_client):
    """Give the test a function that does an action on schedules in the list, filtered or not."""

    def act(action, *tasks, only=""):
        url = reverse("admin:django_celery_beat_periodictask_changelist")
        data = {"action": action, "_selected_action": [task.pk for task in tasks], "index": 0}
        answer = admin_client.post(url + only, data, follow=True)
        for task in tasks:
            task.refresh_from_db()
        return [str(note) for note in answer.context["messages"]]

    return act


@pytest.mark.parametrize("only", ["", "?enabled__exact=0"])
@pytest.mark.parametrize("action", ["enable_tasks", "toggle_tasks"])
def test_enabled_in_the_list(clock, choose, action, only):
    """A schedule made long ago that is enabled in the list is due from then on, not since then."""
    task = schedule(crontab("0"), enabled=False, saved_at=T0 - 30 * DAY)
    clock.forward(minutes=30)
    (note,) = choose(action, task, only=only)
    assert "1 task was successfully" in note
    assert (task.enabled, task.date_changed) == (True, clock.now)
    run(clock, T0 + 2 * HOUR, 5 * MINUTE, beat(clock))
    assert fired(task) == [T0 + HOUR, T0 + 2 * HOUR]


@pytest.mark.parametrize("off", ["disable_tasks", "toggle_tasks"])
def test_disabled_in_the_list_for_a_while(clock, choose, off):
    """Nothing is due between a disabling and an enabling in the list that no beat saw."""
    task, other = schedule(crontab("0")), schedule(crontab("0"))
    one = beat(clock)
    run(clock, T0 + 90 * MINUTE, 5 * MINUTE, one)
    choose(off, task)
    assert (task.enabled, task.last_run_at, task.date_changed) == (False, None, clock.now)
    clock.now = T0 + 210 * MINUTE
    choose("enable_tasks", task, other)
    other.refresh_from_db()
    assert other.date_changed == T0  # it was enabled all the time
    run(clock, T0 + 5 * HOUR, 5 * MINUTE, one)
    assert fired(task) == [T0 + HOUR, T0 + 4 * HOUR, T0 + 5 * HOUR]
