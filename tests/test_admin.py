"""The ledger in Django's admin: read only, escaped, cheap, and each action with its permission."""

import json
from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse
from django.utils.html import escape

from reliable_tasks import ledger, overview
from reliable_tasks.admin import EntryAdmin
from reliable_tasks.admin.verbs import VERBS
from reliable_tasks.failure import Failure
from reliable_tasks.ids import new_id
from reliable_tasks.ledger import WorkerReport
from reliable_tasks.models import Entry, Key, OperatorAct
from reliable_tasks.oversight import Immutable
from reliable_tasks.states import Outcome, State
from tests import entries
from tests.app.argument_tasks import use_token
from tests.app.once_tasks import square

LIST = "admin:reliable_tasks_entry_changelist"
EVIL = "<script>alert(1)</script>"
LEFT = "1 entry was left alone:"
NOT_THERE = "not possible there, or it has changed meanwhile"


@pytest.fixture
def browse(db, client):
    """Log a member of the staff in who has the permissions that are named."""

    def as_user(*permissions):
        user = User.objects.create_user("ann", is_staff=True)
        user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client.force_login(user)
        return client

    return as_user


def ago(**length):
    return overview.now() - timedelta(**length)


def act(client, action, *ids, **more):
    data = {"action": action, "_selected_action": [str(pk) for pk in ids], "index": 0, **more}
    return client.post(reverse(LIST), data, follow=True)


def act_url(name):
    return reverse("admin:reliable_tasks_entry_act", args=[name])


def died(**given):
    """Write an entry that died a minute ago: the admin goes by the database's clock."""
    held = entries.running(now=ago(minutes=1), **given)
    entries.bury(held, now=ago(minutes=1))
    return held.entry


def confirmed(client, name, *ids, follow=True, **more):
    """Send what the form of an act's page sends."""
    data = {"id": [str(pk) for pk in ids], "confirmed": "yes", "reason": "Because.", **more}
    data.update(
        {"edit": {"args": "[1, 2]", "kwargs": "{}"}, "requeue": {"when": "now"}}.get(name, {})
    )
    return client.post(act_url(name), data, follow=follow)


def notes(response):
    return [str(note) for note in response.context["messages"]]


def page(client, pk):
    return client.get(reverse("admin:reliable_tasks_entry_change", args=[pk]))


# ------------------------------------------------------------------------------------- permissions
def test_looking_needs_the_permission(browse):
    """Staff without any permission sees neither entries nor workers."""
    client = browse()
    assert client.get(reverse(LIST)).status_code == 403
    assert client.get(reverse("admin:reliable_tasks_workerprocess_changelist")).status_code == 403


def test_whoever_may_only_look_cannot_act(browse):
    """Without their permissions the actions are neither offered nor carried out."""
    dead, waiting = entries.in_state(State.DEAD), entries.in_state(State.PENDING)
    client = browse("view_entry", "change_entry", "delete_entry", "add_entry")
    listed = client.get(reverse(LIST))
    assert listed.status_code == 200
    assert b'name="action"' not in listed.content
    for action in ("requeue", "cancel", "delete_selected"):
        act(client, action, dead, waiting)
    assert entries.state(dead) is State.DEAD
    assert entries.state(waiting) is State.PENDING


@pytest.mark.parametrize("name", VERBS)
def test_each_act_has_a_permission_of_its_own(browse, name):
    """One act's permission opens the page of that act, and of no other."""
    dead = died()
    client = browse("view_entry", VERBS[name].permission)
    for other in VERBS:
        allowed = other == name
        query = {"id": str(dead)}
        assert client.get(act_url(other), query).status_code == (200 if allowed else 403)
        if not allowed:
            assert confirmed(client, other, dead).status_code == 403
    actions = client.get(reverse(LIST)).context["action_form"]
    offered = dict(actions.fields["action"].choices) if actions else {"": ""}
    assert set(offered) == {""} | ({name} - {"edit"})
    assert entries.state(dead) is State.DEAD


@pytest.mark.parametrize("name", VERBS)
def test_an_act_needs_to_see_entries(browse, name):
    """Whoever may act but not look is refused: they could not know what they do."""
    client = browse(VERBS[name].permission)
    assert client.get(act_url(name), {"id": str(died())}).status_code == 403


def test_a_get_changes_nothing(admin_client):
    """No address changes anything by being opened, not even with all that a form would send."""
    dead = died()
    before = entries.snapshot(dead)
    for name in VERBS:
        query = {"id": str(dead), "confirmed": "yes", "reason": "x", "when": "now"}
        assert admin_client.get(act_url(name), query).status_code == 200
    assert entries.snapshot(dead) == before
    assert not OperatorAct.objects.exists()


def test_a_post_without_the_token_is_refused(admin_user):
    """A form of another site cannot act in an operator's name."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin_user)
    dead = died()
    assert confirmed(client, "requeue", dead, follow=False).status_code == 403
    assert entries.state(dead) is State.DEAD


def test_nothing_is_edited_here(admin_client):
    """Not even a superuser adds, changes or deletes an entry or a worker."""
    dead = entries.in_state(State.DEAD)
    before = entries.snapshot(dead)
    assert admin_client.get(reverse("admin:reliable_tasks_entry_add")).status_code == 403
    for name in ("change", "delete"):
        url = reverse(f"admin:reliable_tasks_entry_{name}", args=[dead])
        assert admin_client.post(url, {"state": "pending", "post": "yes"}).status_code == 403
    act(admin_client, "delete_selected", dead, post="yes")
    assert entries.snapshot(dead) == before
    assert admin_client.get(reverse("admin:reliable_tasks_workerprocess_add")).status_code == 403


# -------------------------------------------------------------------------------------------- acts
def test_requeue(admin_client, django_capture_on_commit_callbacks):
    """Dead and cancelled entries go back, others are told of, and who did it is on record."""
    dead, running = died(), entries.in_state(State.RUNNING)
    with django_capture_on_commit_callbacks(execute=True):
        answer = confirmed(admin_client, "requeue", dead, running)
    assert notes(answer) == ["Requeued 1 entry.", f"{LEFT} {running} is running: {NOT_THERE}."]
    row = entries.row(dead)
    assert (row.state, row.reason) == (State.PENDING, "Requeued by admin in the admin: Because.")
    (act,) = OperatorAct.objects.all()
    assert (act.act, act.by, act.reason, act.done) == (
        "requeue",
        "admin in the admin",
        "Because.",
        1,
    )
    assert entries.state(running) is State.RUNNING


def test_cancel(admin_client, django_capture_on_commit_callbacks):
    """Waiting entries are cancelled, running ones asked to stop, ended ones told of."""
    waiting = entries.enqueue(now=None)
    running = entries.running(now=None).entry
    done = entries.in_state(State.SUCCEEDED)
    with django_capture_on_commit_callbacks(execute=True):
        answer = confirmed(admin_client, "cancel", waiting, running, done)
    assert notes(answer) == [
        "Cancelled 1 entry.",
        "Asked 1 running attempt to stop.",
        f"{LEFT} {done} is succeeded: {NOT_THERE}.",
    ]
    assert entries.state(waiting) is State.CANCELLED
    assert entries.row(running).cancel_requested_at is not None


def test_release_keys(admin_client, django_capture_on_commit_callbacks):
    """Keys that the chosen entries hold are released; the rest is told of, and it is on record."""
    holder, free = square.delay(7).id, entries.enqueue(now=None)
    counted = admin_client.get(act_url("release"), {"id": [holder, str(free)]})
    assert counted.context["preview"].count == 1
    assert counted.context["preview"].others == 1
    assert Key.objects.count() == 1
    with django_capture_on_commit_callbacks(execute=True):
        answer = confirmed(admin_client, "release", holder, free)
    assert notes(answer)[0] == "Released 1 key."
    assert notes(answer)[1].startswith("1 entry was left alone")
    assert not Key.objects.exists()
    row = Entry.objects.get(pk=holder)
    assert (row.state, row.reason) == ("pending", "Key released by admin in the admin: Because.")
    kept = OperatorAct.objects.get()
    assert (kept.act, kept.reason, kept.done) == ("release key", "Because.", 1)
    assert str(kept.touched.get().entry_id) == holder


def test_a_key_taken_since_the_page_was_made_is_left_alone(admin_client):
    """An old page does not release a key that was taken after it was made."""
    holder = square.delay(7).id
    before = ago(minutes=5).isoformat()
    answer = confirmed(admin_client, "release", holder, as_of=before)
    assert notes(answer)[0].startswith("1 entry was left alone")
    assert Key.objects.count() == 1


def test_a_release_is_offered_where_a_key_is_held(admin_client):
    """Only the page of the entry that holds a key offers to release it."""
    holder, free = square.delay(7).id, entries.enqueue(now=None)
    offered = [verb.name for verb, _ in page(admin_client, holder).context["acts"]]
    assert offered == ["cancel", "release"]
    assert [verb.name for verb, _ in page(admin_client, free).context["acts"]] == ["cancel"]


def test_an_act_on_what_is_gone_says_so(admin_client):
    """An act on an entry that does not exist, or on no id at all, changes nothing."""
    answer = admin_client.get(act_url("requeue"), {"id": str(new_id())})
    assert "There is nothing to do" in answer.content.decode()
    answer = admin_client.get(act_url("requeue"), {"id": "x"}, follow=True)
    assert notes(answer)
    assert admin_client.get(act_url("explode")).status_code == 404


def test_an_act_does_not_go_by_a_search(admin_client):
    """All that a search found is no choice for an act: searches have limits, filters have not."""
    answer = admin_client.get(act_url("requeue"), {"q": "tests"}, follow=True)
    assert notes(answer) == [
        "An act goes by filters, not by a search. Select the entries in the list."
    ]


def test_all_that_match_are_not_only_those_on_the_page(admin_client, monkeypatch):
    """To select all is to act on what the filters choose, not on the page, and on nothing else."""
    dead = [died() for _ in range(3)]
    other = died(queue="mail")
    monkeypatch.setattr(EntryAdmin, "list_per_page", 2)
    url = f"{reverse(LIST)}?queue=celery"
    data = {"action": "discard", "_selected_action": [str(dead[0])], "index": 0, "select_across": 1}
    shown = admin_client.post(url, data)
    assert shown.context["preview"].count == 3
    fields = dict(shown.context["fields"])
    assert fields["queue"] == "celery"
    admin_client.post(act_url("discard"), {**fields, "confirmed": "yes", "reason": "Old."})
    assert {entries.state(pk) for pk in dead} == {"cancelled"}
    assert entries.state(other) is State.DEAD


def test_what_changed_since_the_page_was_made_is_left_alone(admin_client):
    """An entry that died again after the page was made is reported, not touched."""
    dead = died()
    answer = confirmed(admin_client, "discard", dead, as_of=ago(hours=1).isoformat())
    assert entries.state(dead) is State.DEAD
    assert "left alone" in notes(answer)[0]


def test_the_record_cannot_be_changed(admin_client):
    """Neither the admin nor code changes or deletes an act on record."""
    confirmed(admin_client, "requeue", died())
    (act,) = OperatorAct.objects.all()
    for name in ("change", "delete"):
        url = reverse(f"admin:reliable_tasks_operatoract_{name}", args=[act.pk])
        assert admin_client.post(url, {"reason": "x", "post": "yes"}).status_code == 403
    act.reason = "another"
    for attempt in (act.save, act.delete, OperatorAct.objects.all().delete):
        with pytest.raises(Immutable):
            attempt()
    with pytest.raises(Immutable):
        OperatorAct.objects.update(reason="another")
    assert OperatorAct.objects.get().reason == "Because."


# ------------------------------------------------------------------------------------------- pages
def test_the_list_is_newest_first(admin_client):
    """Entries are listed newest first."""
    ids = [entries.in_state(State.PENDING) for _ in range(3)]
    shown = admin_client.get(reverse(LIST)).context["cl"].result_list
    assert [entry.pk for entry in shown] == ids[::-1]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"state": "dead"}, {"dead"}),
        ({"state": "strange"}, set()),
        ({"task": "tests.app.tasks.boom"}, {"boom"}),
        ({"task": "tests.app.tasks.b*"}, {"boom"}),
        ({"error": "GatewayDown"}, {"dead"}),
        ({"error": "app.errors.GatewayDown"}, {"dead"}),
        ({"fingerprint": "0123456789abcdef"}, {"dead"}),
        ({"worker": "celery@here"}, {"dead"}),
        ({"schedule": "nightly"}, {"mail"}),
        ({"state": "dead", "queue": "mail"}, set()),
        ({"q": "order=17"}, {"mail"}),
        ({"q": "customer=Ann"}, {"mail"}),
        ({"q": "number=18"}, {"boom"}),
        ({"q": "order=99"}, set()),
        ({"queue": "mail"}, {"mail"}),
        ({"q": "tests.app.tasks.bo"}, {"boom"}),
        ({"q": "app.tasks"}, set()),
        ({"q": str(new_id())}, set()),
        ({"q": "  "}, {"dead", "mail", "boom"}),
    ],
)
def test_filters_and_search(admin_client, query, expected):
    """Entries are found by state, by queue, and by how their task's name begins."""
    made = {
        entries.in_state(State.DEAD): "dead",
        entries.enqueue(
            queue="mail", schedule="nightly", kwargs='{"order": 17, "customer": "Ann"}'
        ): "mail",
        entries.enqueue(task="tests.app.tasks.boom", args="[18]"): "boom",
    }
    shown = admin_client.get(reverse(LIST), query).context["cl"].result_list
    assert {made[entry.pk] for entry in shown} == expected


def test_search_by_id(admin_client):
    """A whole id finds its entry, with and without hyphens."""
    wanted, _ = entries.enqueue(), entries.enqueue()
    for text in (str(wanted), wanted.hex, f" {str(wanted).upper()} "):
        shown = admin_client.get(reverse(LIST), {"q": text}).context["cl"].result_list
        assert [entry.pk for entry in shown] == [wanted]


@pytest.mark.parametrize(
    "query",
    [
        *("token__value__startswith=tok", "token__value=tok-4111", "token__value__gt=a"),
        'token={"__type__":"secret","value":"tok-4111"}',
        'token={"value": "tok-4111", "__type__": "secret"}',
        'x={"__type__":"secret","value":"tok-4111"}',
        'token=[{"__type__":"secret","value":"tok-4111"}]',
    ],
)
@pytest.mark.parametrize("task", [use_token.name, "gone.and_forgotten"])
def test_no_search_finds_a_secret(admin_client, query, task):
    """A search neither goes inside a value nor compares what is hidden, given in either way."""
    use_token.delay(1, token="tok-4111")
    use_token.delay(1, "tok-4111")
    assert Entry.objects.update(task=task) == 2
    answer = admin_client.get(reverse(LIST), {"q": query})
    assert answer.status_code == 200
    assert list(answer.context["cl"].result_list) == []


def test_no_search_finds_what_its_task_hides_by_now(admin_client):
    """Entries from before a parameter was declared sensitive are not found by it either."""
    name, plain = use_token.name, "tests.app.tasks.add"
    entries.enqueue(task=name, kwargs='{"user": 1, "token": "tok-4111"}')
    entries.enqueue(task=name, args='[1, "tok-4111"]')
    other = entries.enqueue(task=plain, kwargs='{"token": "tok-4111"}')
    place = entries.enqueue(task=plain, args='[1, "tok-4111"]')
    found = admin_client.get(reverse(LIST), {"q": "token=tok-4111"}).context["cl"].result_list
    assert {entry.pk for entry in found} == {other, place}
    found = admin_client.get(reverse(LIST), {"q": "user=1"}).context["cl"].result_list
    assert len(found) == 3


@pytest.mark.parametrize("query", ["x__isnull=y", "x__regex=(", "x=NaN", "x=1e999", 'x="\\u0000"'])
def test_no_search_is_an_error(admin_client, query):
    """Whatever is typed is looked for, never executed."""
    entries.enqueue(kwargs='{"x": 1}')
    assert admin_client.get(reverse(LIST), {"q": query}).status_code == 200
    assert admin_client.get(reverse(LIST), {"q": "x=" + "[" * 90_000}).status_code == 200


@pytest.mark.parametrize("name", ["isnull", "contains", "a__b", "größe"])
def test_a_search_takes_a_name_as_it_is(admin_client, name):
    """An argument whose name means something to a database is found like any other."""
    wanted = entries.enqueue(kwargs=json.dumps({name: "17"}))
    entries.enqueue(kwargs='{"x": "17"}')
    found = admin_client.get(reverse(LIST), {"q": f"{name}=17"}).context["cl"].result_list
    assert [entry.pk for entry in found] == [wanted]


@pytest.mark.parametrize(
    "query",
    [
        {"kwargs__token__value__startswith": "tok"},
        {"args__0": "1"},
        {"options__shadow": "x"},
        {"state__regex": "("},
        {"error_message__contains": "x"},
        {"task": "a\x00b"},
        {"subject_id": "a\x00b"},
    ],
)
def test_no_address_asks_for_more_than_the_filters(admin_client, query):
    """An address that asks for another column, or for a part of one, is refused."""
    entries.enqueue()
    assert admin_client.get(reverse(LIST), query).status_code == 400


def test_the_list_is_cheap(admin_client, django_assert_max_num_queries):
    """A page of the list takes few statements, counts no further than it must, reads no texts."""
    for _ in range(3):
        entries.in_state(State.DEAD)
    admin_client.get(reverse(LIST))
    with django_assert_max_num_queries(9) as queries:
        admin_client.get(reverse(LIST))
    statements = [each["sql"] for each in queries.captured_queries]
    about_entries = [sql for sql in statements if "reliable_tasks_entry" in sql]
    # Live entries are few; those that have ended are never read for their queues.
    assert all("wake_at" in sql for sql in about_entries if "DISTINCT" in sql)
    assert not any("traceback" in sql or '"args"' in sql for sql in about_entries)
    assert all("LIMIT 5000" in sql for sql in about_entries if "COUNT" in sql)


def test_an_entry_shows_its_attempts(admin_client):
    """The page of an entry shows its call, its times and each attempt's traceback."""
    held = entries.running(now=ago(seconds=9), args='[7, "x"]')
    failure = Failure("app.NotToBe", "no", "Traceback\n  line two", "f" * 16)
    ledger.bury(held, failure, Outcome.FAILED, reason="It was not to be.", now=ago(seconds=8))
    text = page(admin_client, held.entry).content.decode()
    for words in (
        "It was not to be.",
        "app.NotToBe: no",
        "<dt>x</dt><dd><code>7</code></dd>",
        '<dt>y</dt><dd><span class="reliable-tasks-value">x</span></dd>',
        "Traceback\n  line two",
        "1 begun · 0 retries of no limit · 0 crashes of 3",
    ):
        assert words in text
    assert 'type="submit" value="Save"' not in text


def test_whoever_sees_an_entry_sees_its_attempts(browse):
    """No second permission is needed for the attempts of an entry."""
    dead = entries.in_state(State.DEAD)
    assert b"Traceback ..." in page(browse("view_entry"), dead).content


@pytest.mark.parametrize("state", list(State))
def test_each_state_has_a_page(admin_client, state):
    """An entry in any state can be looked at."""
    assert page(admin_client, entries.in_state(state)).status_code == 200


def test_everything_is_escaped(admin_client):
    """Names, arguments, messages, tracebacks and reasons are text, never markup."""
    held = entries.running(
        now=ago(seconds=9),
        task=f"task{EVIL}",
        queue=f"queue{EVIL}",
        worker=f"worker{EVIL}",
        args=f'["{EVIL}"]',
        kwargs=f'{{"{EVIL}": "{EVIL}"}}',
        options=f'{{"shadow": "{EVIL}"}}',
    )
    failure = Failure(f"class{EVIL}", f"message{EVIL}", f"traceback{EVIL}", EVIL[:16])
    ledger.bury(held, failure, Outcome.FAILED, reason=f"reason{EVIL}", now=ago(seconds=8))
    report = WorkerReport(f"w{EVIL}#1", EVIL, 1, EVIL, 1, [EVIL], {EVIL: EVIL})
    ledger.beat(report)
    worker_page = reverse("admin:reliable_tasks_workerprocess_change", args=[_quoted(report)])
    for answer in (
        admin_client.get(reverse(LIST)),
        page(admin_client, held.entry),
        admin_client.get(act_url("requeue"), {"id": str(held.entry)}),
        admin_client.get(act_url("edit"), {"id": str(held.entry)}),
        admin_client.get(reverse("admin:reliable_tasks_deadletter_changelist")),
        admin_client.get(reverse("admin:reliable_tasks_workerprocess_changelist")),
        admin_client.get(worker_page),
    ):
        assert answer.status_code == 200
        assert EVIL.encode() not in answer.content
        assert escape(EVIL).encode() in answer.content


def _quoted(report):
    from django.contrib.admin.utils import quote

    return quote(report.identity)


def test_very_long_texts_are_cut(admin_client):
    """A huge argument does not make its entry's page too large to open."""
    huge = entries.enqueue(args=f'["{"x" * 100_000}"]')
    answer = page(admin_client, huge)
    assert len(answer.content) < 60_000
    assert b"characters more" in answer.content


def test_workers_are_shown_with_their_standing(admin_client):
    """Workers are listed as alive, draining or silent, with the queues that they consume."""
    for number, (seconds, draining) in enumerate([(0, False), (0, True), (60, False)]):
        report = WorkerReport(f"w{number}#1", "w", 1, "solo", 1, ["celery", "mail"], {})
        ledger.beat(report, draining=draining, now=ago(seconds=seconds))
    answer = admin_client.get(reverse("admin:reliable_tasks_workerprocess_changelist"))
    text = answer.content.decode()
    for words in ("alive", "draining", "silent", "celery, mail"):
        assert f">{words}<" in text


def test_a_worker_shows_what_it_runs(admin_client, browse, django_assert_num_queries):
    """The list counts what each worker runs in one statement; its page links each entry."""
    address = reverse("admin:reliable_tasks_workerprocess_changelist")
    for number in range(3):
        report = WorkerReport(
            f"w{number}#1", "w", 1, "solo", 4, ["celery"], {"celery": "5.7.0"}, {"celery": 2}
        )
        ledger.beat(report)
    held = [entries.running(now=ago(seconds=5), worker="w1#1") for _ in range(2)]
    gone = entries.running(now=ago(seconds=60), worker="w1#1")
    ledger.succeed(gone)
    admin_client.get(address)
    with django_assert_num_queries(5):
        listed = admin_client.get(address)
    assert [worker.running_count for worker in listed.context["cl"].result_list] == [0, 2, 0]
    assert "2\N{NO-BREAK SPACE}/\N{NO-BREAK SPACE}4" in listed.content.decode()
    page = reverse("admin:reliable_tasks_workerprocess_change", args=["w1_231"])
    text = admin_client.get(page).content.decode()
    for each in held:
        assert reverse("admin:reliable_tasks_entry_change", args=[each.entry]) in text
    assert str(gone.entry) not in text
    assert "attempt 1, for 5s" in text
    assert "celery: 2" in text
    # Who may see workers only does not see what they run.
    text = browse("view_workerprocess").get(page).content.decode()
    assert str(held[0].entry) not in text


def test_unknown_entry(admin_client):
    """An id that the ledger does not have leads back with a message, not to an error."""
    answer = admin_client.get(
        reverse("admin:reliable_tasks_entry_change", args=[new_id()]), follow=True
    )
    assert answer.status_code == 200
    assert "Perhaps it was deleted?" in notes(answer)[0]
    assert not Entry.objects.exists()
