"""What people read is in their language."""

from __future__ import annotations

import pytest
from django.urls import reverse
from django.utils import translation

from reliable_tasks import operations, overview
from reliable_tasks.models import Operation, OperatorAct, Pause
from reliable_tasks.oversight import Act, Kind, Steps
from reliable_tasks.states import State
from tests import entries


def test_acts_states_and_kinds_are_in_the_readers_language():
    """No column of the admin shows what the database keeps where a translation is known."""
    with translation.override("zh-hans"):
        assert OperatorAct(act=Act.REQUEUE).get_act_display() == "重新入队"
        assert Operation(state=Steps.STOPPED).get_state_display() == "已停止"
        assert Pause(kind=Kind.QUEUE).get_kind_display() == "队列"


@pytest.mark.django_db
def test_a_life_and_a_filter_are_in_the_readers_language(admin_client):
    """What an act did to an entry, and the states to filter by, are not shown in English."""
    entry = entries.in_state(State.DEAD, now=overview.now())
    operations.requeue([entry], "x", by="ann")
    with translation.override("zh-hans"):
        page = admin_client.get(reverse("admin:reliable_tasks_entry_change", args=[entry]))
        answer = admin_client.get(reverse("admin:reliable_tasks_entry_changelist"))
    titles = " ".join(each.title for each in page.context["life"])
    assert "Requeued" not in titles
    assert "已重新入队" in titles
    assert ">dead</a>" not in answer.content.decode()
    assert ">死信</a>" in answer.content.decode()
