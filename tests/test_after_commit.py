"""What happens after an atomic task's commit cannot undo its success."""

from __future__ import annotations

import pytest

from reliable_tasks import events, execution
from reliable_tasks.models import Attempt, Entry
from reliable_tasks.states import State
from tests.app.models import Effect
from tests.app.tasks import hook_fails

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_failing_on_commit_hook_leaves_a_success(monkeypatch):
    """A body's on_commit hook that raises is logged; entry, result and effects are a success's."""
    fenced, said = [], []
    monkeypatch.setattr(execution.logger, "exception", lambda words, *_: said.append(words))
    events.entry_fenced.connect(lambda **given: fenced.append(given), weak=False, dispatch_uid="t")
    try:
        result = hook_fails.apply((True,))
    finally:
        events.entry_fenced.disconnect(dispatch_uid="t")
    assert result.get() == "done"
    assert Entry.objects.get().state == State.SUCCEEDED
    assert Effect.objects.count() == 1
    assert not fenced
    assert not Attempt.objects.exists()
    assert "on_commit hook failed" in said[0]


def test_an_error_before_the_commit_is_a_failure():
    """The same error before the commit takes the effects back and is the attempt's failure."""
    result = hook_fails.apply((False,))
    assert isinstance(result.result, ValueError)
    assert Entry.objects.get().state == State.DEAD
    assert not Effect.objects.exists()
    assert Attempt.objects.get().error_class == "ValueError"
