"""The planted bugs, by what they break."""

from __future__ import annotations

from typing import Final

from tests.planted.bug import Bug, Edit

_P = "reliable_tasks/"
CLAIM, FINISH, ENQUEUE = (_P + f"ledger/{name}.py" for name in ("claim", "finish", "enqueue"))
RESCUE, DUE, OPERATE = (_P + f"ledger/{name}.py" for name in ("rescue", "due", "operate"))
AGAIN, EXPIRE, PRUNING = (_P + f"ledger/{name}.py" for name in ("again", "expire", "pruning"))
GUARD, BACKLOG, TASK = _P + "ledger/guard.py", _P + "ledger/backlog.py", _P + "task.py"
LINK, EXECUTION, SWEEPER = (_P + f"{name}.py" for name in ("link", "execution", "sweeping"))
KEEPER, PUBLISH, PATIENCE = _P + "worker/keeper.py", _P + "publish.py", _P + "patience.py"
KEYS, ONCE, KEYRING = (_P + f"ledger/{name}.py" for name in ("keys", "once", "keyring"))
ARRIVAL, FOLLOWING, CONFLICTS = (
    _P + f"{name}.py" for name in ("arrival", "following", "conflicts")
)

RACES = "tests/races"
T_CLAIM, T_FINISH = "tests/ledger/test_claim.py", "tests/ledger/test_finish.py"
T_RESCUE, T_DUE = "tests/ledger/test_rescue.py", "tests/ledger/test_due.py"
T_OPERATE, T_ENQUEUE = "tests/ledger/test_operate.py", "tests/ledger/test_enqueue.py"
T_MOVES, T_BACKLOG = "tests/ledger/test_moves.py", "tests/ledger/test_backlog.py"
T_TRANSACTIONS, T_KEEPER = "tests/enqueue/test_transactions.py", "tests/test_keeper.py"
T_LIFE, T_CONFLICTS = "tests/once/test_life.py", "tests/once/test_conflicts.py"
T_FOLLOWING, T_KEY_RACES = "tests/once/test_following.py", RACES + "/test_keys.py"
T_KEY_LIVES, T_KEYS = "tests/once/test_machine.py", "tests/dedup/test_canonical.py"

ENQUEUING: Final = (
    Bug(
        "published-before-the-commit",
        "the wake-up is sent in the middle of the caller's transaction, also if it rolls back",
        (
            Edit(
                TASK,
                "transaction.on_commit(after_commit, using=connection.alias, robust=True)",
                "after_commit()",
            ),
        ),
        (T_TRANSACTIONS,),
        quick=True,
    ),
    Bug(
        "publishing-may-fail-the-caller",
        "an error while publishing keeps the caller's other on_commit hooks from running",
        (Edit(TASK, "using=connection.alias, robust=True)", "using=connection.alias)"),),
        (T_TRANSACTIONS,),
    ),
    Bug(
        "entry-without-a-timer",
        "a new entry has no wake_at, so that no sweeper ever looks at it",
        (Edit(ENQUEUE, "    return moment(connection, grace, now)\n", '    return "NULL", []\n'),),
        (T_ENQUEUE,),
        quick=True,
    ),
    Bug(
        "delay-ignored-at-insert",
        "an entry with a countdown or an eta is due at once",
        (
            Edit(
                ENQUEUE,
                "due_sql, due_params = _time(connection, entry.due_at, entry.delay, now)",
                "due_sql, due_params = _time(connection, None, 0.0, now)",
            ),
        ),
        (T_ENQUEUE,),
    ),
    Bug(
        "expiry-not-watched",
        "the sweeper is not told when a new entry expires",
        (
            Edit(
                ENQUEUE,
                "CASE WHEN {expires_sql} < {wake_sql}",
                "CASE WHEN {expires_sql} IS NULL AND {wake_sql} IS NULL",
            ),
        ),
        (T_ENQUEUE,),
    ),
    Bug(
        "same-id-overwrites",
        "an id that is enqueued again changes the entry that is there",
        (
            Edit(
                ENQUEUE,
                'unless_there(vendor, "id", "attempt") for',
                'unless_there(vendor, "id", "attempt").replace("NOTHING", "UPDATE SET args = excluded.args") for',
            ),
        ),
        (T_ENQUEUE, RACES + "/test_enqueues.py"),
    ),
    Bug(
        "outside-the-callers-transaction",
        "an entry may commit while the caller's transaction on another database rolls back",
        (Edit(_P + "calling.py", "if not others or mode", "if True or mode"),),
        ("tests/enqueue/test_databases.py",),
    ),
    Bug(
        "python-clock",
        "times are those of the host instead of the database's",
        (
            Edit(
                GUARD,
                "    if now is not None:\n        value =",
                "    from django.utils import timezone\n    now = now or timezone.now()\n"
                "    if now is not None:\n        value =",
            ),
        ),
        ("tests/ledger/test_guard.py",),
    ),
)

CLAIMING: Final = (
    Bug(
        "claim-without-state",
        "a second delivery starts a second attempt of what runs or has ended",
        (Edit(CLAIM, "AND state IN ({_WAITING}){due} ", "{due} "),),
        (T_CLAIM, T_MOVES, RACES + "/test_claims.py"),
        quick=True,
    ),
    Bug(
        "claim-without-due-at",
        "a stale message starts a retry before its delay is over",
        (Edit(CLAIM, 'f" AND due_at <= {now_sql}"', 'f" AND {now_sql} IS NOT NULL"'),),
        (T_CLAIM,),
        quick=True,
    ),
    Bug(
        "expired-entry-runs",
        "an entry whose expiry has passed is claimed",
        (
            Edit(
                CLAIM,
                "(expires_at IS NULL OR expires_at > {now_sql})",
                "(expires_at IS NULL OR {now_sql} IS NOT NULL)",
            ),
        ),
        (T_CLAIM,),
    ),
    Bug(
        "cancelled-entry-runs",
        "an entry that was asked to stop is claimed again after its attempt failed",
        (Edit(CLAIM, " AND cancel_requested_at IS NULL", ""),),
        (T_CLAIM, T_FINISH),
    ),
    Bug(
        "token-restarts-at-claim",
        "the token does not grow from one attempt to the next",
        (Edit(CLAIM, "attempt = attempt + 1", "attempt = 1"),),
        (T_CLAIM,),
    ),
    Bug(
        "crash-not-counted",
        "a claim charges no crash in advance: a poison task runs for ever",
        (Edit(CLAIM, "crashes = crashes + 1", "crashes = crashes"),),
        (T_CLAIM, T_RESCUE),
        quick=True,
    ),
    Bug(
        "lease-never-renewed",
        "the renewal finds its entries and moves no lease",
        (
            Edit(
                CLAIM,
                "            return running.filter(pk__in=entry_ids).update(wake_at=at)\n",
                "            return running.filter(pk__in=entry_ids).count()\n",
            ),
        ),
        (T_CLAIM, T_RESCUE),
    ),
    Bug(
        "renewal-of-anybodys-lease",
        "a worker renews leases that another worker holds by now",
        (
            Edit(
                CLAIM,
                "state=State.RUNNING, worker=worker)\n    at = ",
                "state=State.RUNNING)\n    at = ",
            ),
        ),
        (T_CLAIM,),
    ),
    Bug(
        "late-note-ends-the-next-attempt",
        "a hard time limit ends an attempt that began after it was noticed",
        (Edit(CLAIM, "        started_at__lte=moment_expression(-begun_for, now),\n", ""),),
        (T_KEEPER,),
    ),
    Bug(
        "fork-waits-for-a-writer",
        "a turn that waits for SQLite's one writer does not make way for a fork",
        (
            Edit(
                "reliable_tasks/turns.py",
                "                if _forking:\n                    self.made_way = True\n                    raise\n",
                "",
            ),
        ),
        ("tests/test_turns.py",),
    ),
    Bug(
        "keeper-does-not-renew",
        "the heartbeat reports the worker but renews nothing",
        (
            Edit(
                KEEPER,
                "            ledger.renew(held, self._identity, lease=current().LEASE_SECONDS)\n",
                "",
            ),
        ),
        (T_KEEPER,),
    ),
)

FINISHING: Final = (
    Bug(
        "fence-dropped",
        "an attempt that was taken over ends the entry of the attempt that follows",
        (
            Edit(
                FINISH,
                "AND state = '{State.RUNNING}' AND attempt = %s\"",
                "AND state = '{State.RUNNING}' AND attempt >= %s\"",
            ),
            Edit(FINISH, 'f"AND attempt = %s{extra}"', 'f"AND attempt >= %s{extra}"'),
        ),
        (T_FINISH,),
        quick=True,
    ),
    Bug(
        "finish-by-id-only",
        "a success is written by the entry's id alone",
        (
            Edit(
                FINISH,
                "AND state = '{State.RUNNING}' AND attempt = %s\"",
                'AND %s IS NOT NULL"',
            ),
        ),
        (T_FINISH, T_MOVES),
    ),
    Bug(
        "cancelled-entry-succeeds",
        "an attempt whose entry was rescued or ended meanwhile still writes its success",
        (
            Edit(
                FINISH,
                "AND state = '{State.RUNNING}' AND attempt = %s\"",
                'AND attempt = %s"',
            ),
        ),
        (T_MOVES, RACES + "/test_finishes.py"),
    ),
    Bug(
        "lost-race-not-noticed",
        "a finish that touched no row passes for one that did",
        (Edit(FINISH, "    if touched != 1:", "    if touched > 1:"),),
        (T_FINISH, RACES + "/test_finishes.py"),
        database="postgres",
    ),
    Bug(
        "success-outside-the-transaction",
        "with atomic=True the body commits first, and its finish afterwards",
        (
            Edit(
                EXECUTION,
                "            _end(running)\n            running.ended = True\n    if not task.atomic:",
                "            running.ended = True\n    if True:",
            ),
        ),
        ("tests/workers/test_fencing.py",),
        database="postgres",
    ),
    Bug(
        "success-keeps-the-crash",
        "the crash that the claim charged in advance is not taken back by a success",
        (Edit(FINISH, 'finished_at = {ended}, {CAME_BACK} "\n', 'finished_at = {ended} "\n'),),
        (T_FINISH,),
    ),
    Bug(
        "retry-keeps-its-due-time",
        "a retry is due when its first attempt was, so without any delay",
        (Edit(AGAIN, 'f"due_at = {due}, wake_at', 'f"due_at = COALESCE(due_at, {due}), wake_at'),),
        (T_FINISH,),
        quick=True,
    ),
    Bug(
        "retry-not-counted",
        "a failing task is retried without end",
        (Edit(AGAIN, "retries = retries + {int(charged)}", "retries = retries"),),
        (T_FINISH,),
    ),
    Bug(
        "cancel-waits-for-the-retry",
        "a cancel that came during an attempt is hidden until its retry is due",
        (
            Edit(
                AGAIN,
                "due_at = {due}, wake_at = CASE WHEN cancel_requested_at IS NULL",
                "due_at = {due}, wake_at = CASE WHEN 1 = 1",
            ),
        ),
        (T_FINISH, RACES + "/test_finishes.py"),
    ),
    Bug(
        "release-charges",
        "an attempt that was told to stop pays with a retry",
        (
            Edit(
                AGAIN,
                'publishes = 0, {CAME_BACK}", params',
                'publishes = 0, retries = retries + 1", params',
            ),
        ),
        (T_FINISH,),
        quick=True,
    ),
    Bug(
        "stop-unasked",
        "an attempt may end its entry as cancelled though nobody cancelled it",
        (Edit(FINISH, '" AND cancel_requested_at IS NOT NULL"', '""'),),
        (T_FINISH,),
    ),
    Bug(
        "failed-attempt-without-a-row",
        "a failure leaves no attempt with its traceback",
        (
            Edit(
                AGAIN,
                "given.values()],\n        )\n        record_attempt(claim, failure, outcome, now)\n",
                "given.values()],\n        )\n",
            ),
        ),
        (T_FINISH,),
    ),
)

SWEEPING: Final = (
    Bug(
        "rescue-by-age",
        "what has run for ten seconds is taken over, however often its lease was renewed",
        (
            Edit(
                DUE,
                "    kinds = [due.filter(state=State.RUNNING)] if rescuing else []\n",
                "    aged = entries().filter(started_at__lte=moment_expression(-10.0, now))\n"
                '    aged = aged.annotate(is_expired=_expired(now), age=age, options_text=Cast("options",'
                " TextField()))\n"
                "    kinds = [aged.filter(state=State.RUNNING)] if rescuing else []\n",
            ),
            Edit(RESCUE, "    if expired_lease:\n", "    if False:\n"),
        ),
        (T_RESCUE,),
        quick=True,
    ),
    Bug(
        "rescue-without-a-guard",
        "a sweeper takes over what has reported or renewed since it looked",
        (
            Edit(RESCUE, "return rows.select_for_update(skip_locked=True)", "return rows"),
            Edit(
                RESCUE,
                "filter(pk=row.pk, state=State.RUNNING, attempt=row.attempt, worker=row.worker)\n"
                "    if expired_lease:",
                "filter(pk=row.pk)\n    if False:",
            ),
        ),
        (RACES + "/test_finishes.py",),
        database="postgres",
    ),
    Bug(
        "sweepers-wait-for-each-other",
        "rows are locked without SKIP LOCKED",
        (
            Edit(
                RESCUE,
                "rows.select_for_update(skip_locked=True)",
                "rows.select_for_update()",
            ),
        ),
        (RACES + "/test_sweepers.py",),
        database="postgres",
    ),
    Bug(
        "sweepers-do-not-lock",
        "two sweepers publish the same entry",
        (Edit(RESCUE, "return rows.select_for_update(skip_locked=True)", "return rows"),),
        (RACES + "/test_sweepers.py",),
        database="postgres",
    ),
    Bug(
        "crash-counted-twice",
        "a rescue charges the crash that the claim had charged",
        (
            Edit(
                RESCUE,
                '"wake_at": at, "publishes": 0, **error}, ""',
                '"wake_at": at, "publishes": 0, "crashes": row.crashes + 1, **error}, ""',
            ),
        ),
        (T_RESCUE,),
        quick=True,
    ),
    Bug(
        "crash-budget-exceeded",
        "a poison task runs once more than its budget",
        (
            Edit(
                RESCUE, "if row.crashes >= row.crash_budget:", "if row.crashes > row.crash_budget:"
            ),
        ),
        (T_RESCUE, T_MOVES),
    ),
    Bug(
        "rescue-forgets-the-cancel",
        "an entry that was asked to stop and lost its process runs again",
        (
            Edit(
                RESCUE,
                "    if row.cancel_requested_at is not None:\n        # The reason",
                "    if False:\n        # The reason",
            ),
        ),
        (T_RESCUE, T_MOVES),
    ),
    Bug(
        "late-note-takes-the-next-attempt",
        "Celery's late word of a dead child takes over the attempt that another child has begun",
        (
            Edit(
                RESCUE,
                "        held = held.filter(started_at__lte=moment_expression(-dead_for, now))\n",
                "",
            ),
        ),
        (T_RESCUE, T_KEEPER),
    ),
    Bug(
        "two-timers",
        "the sweeper publishes what is due instead of what its wake_at says",
        (
            Edit(
                DUE,
                "    waiting = due.filter(state__in=WAITING)\n",
                "    waiting = entries().filter(state__in=WAITING, due_at__lte=moment_expression(0.0, now))\n"
                '    waiting = waiting.annotate(is_expired=_expired(now), age=age, options_text=Cast("options",'
                " TextField()))\n",
            ),
        ),
        (T_DUE,),
    ),
    Bug(
        "published-without-a-next-look",
        "an entry that was published is due for the very next sweep again: a message storm",
        (
            Edit(
                DUE,
                "    _set_next_look(to_publish, recheck, longest, now, published=True)\n",
                "",
            ),
        ),
        (T_DUE,),
    ),
    Bug(
        "waiting-turn-is-published-again",
        "an entry that only waits its turn is published at every look: a message storm",
        (Edit(DUE, "return not counted or row.publishes", "return counted or row.publishes"),),
        (T_DUE, "tests/test_storm.py"),
    ),
    Bug(
        "fetched-messages-not-counted",
        "messages that a worker has fetched count as lost: a message storm",
        (Edit(SWEEPER, "held + fetched[queue]", "held"),),
        ("tests/test_storm.py",),
    ),
    Bug(
        "lost-messages-not-counted",
        "what a wiped broker has lost is not published again",
        (Edit(BACKLOG, 'rows.update(wake_at=F("due_at"))', "rows.count()"),),
        (T_BACKLOG, "tests/test_recovery.py"),
    ),
    Bug(
        "breaker-that-forgets",
        "a broker that does not answer is tried again at every publish",
        (Edit(LINK, "        self.breaker.trip(current().BREAKER_SECONDS)\n", ""),),
        ("tests/test_link.py",),
        quick=True,
    ),
    Bug(
        "no-patience-after-an-outage",
        "a sweeper that was cut off takes over what nobody could renew",
        (
            Edit(
                PATIENCE,
                "        if time.monotonic() < self._not_before:\n            return False\n",
                "",
            ),
        ),
        ("tests/test_patience.py",),
        database="postgres",
    ),
)

OPERATING: Final = (
    Bug(
        "cancel-ends-what-runs",
        "a running entry is cancelled under its attempt's feet",
        (
            Edit(
                OPERATE,
                "            if state in WAITING:",
                "            if state in WAITING or state == State.RUNNING:",
            ),
            Edit(
                OPERATE,
                "_guarded(result.cancelled, WAITING, seen)",
                "_guarded(result.cancelled, {*WAITING, State.RUNNING}, seen)",
            ),
        ),
        (T_OPERATE, T_MOVES),
    ),
    Bug(
        "cancel-without-a-lock",
        "a cancel tells what it saw, not what it did",
        (Edit(OPERATE, "    return rows.select_for_update()\n", "    return rows\n"),),
        (RACES + "/test_operators.py", RACES + "/test_claims.py"),
        database="postgres",
    ),
    Bug(
        "requeue-without-fresh-budgets",
        "a dead entry that is put back dies at its next crash",
        (Edit(OPERATE, '        "crashes": 0,\n', ""),),
        (T_OPERATE,),
        quick=True,
    ),
    Bug(
        "requeue-restarts-the-token",
        "an attempt from before the requeue can end the entry",
        (
            Edit(
                OPERATE, '        "retries": 0,\n', '        "retries": 0,\n        "attempt": 0,\n'
            ),
        ),
        (T_OPERATE,),
    ),
    Bug(
        "requeue-of-what-lives",
        "a requeue throws back what runs or has succeeded",
        (
            Edit(OPERATE, ".filter(state__in=list(states))", ""),
            Edit(OPERATE, "_guarded(chosen, states, seen)", "_guarded(chosen, set(State), seen)"),
        ),
        (T_OPERATE, T_MOVES),
    ),
    Bug(
        "prune-of-what-lives",
        "a prune deletes by age, whatever the state",
        (
            Edit(
                PRUNING,
                ".filter(state=state, finished_at__isnull=False, finished_at__lt=before)",
                ".filter(enqueued_at__lt=before)",
            ),
            Edit(PRUNING, "filter(pk__in=chosen, state=state)", "filter(pk__in=chosen)"),
        ),
        (T_OPERATE,),
        quick=True,
    ),
    Bug(
        "prune-without-a-lock",
        "a prune deletes what is being requeued",
        (
            Edit(
                PRUNING,
                "            old = old.select_for_update(skip_locked=True)\n",
                "            pass\n",
            ),
            Edit(PRUNING, "filter(pk__in=chosen, state=state)", "filter(pk__in=chosen)"),
        ),
        (RACES + "/test_operators.py",),
        database="postgres",
    ),
)

_ELSEWHERE: Final = (
    "        other = connection.copy()\n"
    "        with other.cursor() as cursor:\n"
    "            cursor.execute({statement})\n"
    "            {then}\n"
    "        other.close()\n"
)

LOADING: Final = (
    Bug(
        "refused-query-waits-for-ever",
        "a query of a body's rows that the database refuses is tried again, uncharged, without end",
        (
            Edit(
                _P + "loading.py",
                "        if not out_of_reach(connections[alias], error):\n            raise\n",
                "",
            ),
        ),
        ("tests/arguments/test_gone.py",),
    ),
    Bug(
        "outage-is-charged",
        "an entry whose row is on a database that is down is dead when its retries are used up",
        (
            Edit(
                _P + "outage.py",
                "        return True\n    gone =",
                "        return False\n    gone =",
            ),
        ),
        ("tests/arguments/test_gone.py",),
    ),
)

KEYING: Final = (
    Bug(
        "key-outside-the-transaction",
        "a key is taken on a connection of its own: a rollback leaves it behind",
        (
            Edit(
                ONCE,
                '    if connection.vendor == "postgresql":\n        again =',
                '    if connection.vendor == "postgresql":\n'
                + _ELSEWHERE.format(
                    statement="taken, key_params", then="written = was_written(connection, cursor)"
                )
                + "        if not written:\n            return False\n"
                "        with connection.cursor() as cursor:\n"
                '            insert = _insert(connection.vendor, f"({row[1:-1]}, %s)")\n'
                "            cursor.execute(insert, [*params, hold.text])\n"
                "            return was_written(connection, cursor)\n"
                "        again =",
            ),
        ),
        (T_KEY_RACES,),
        database="postgres",
    ),
    Bug(
        "key-free-before-the-end-commits",
        "a success frees its key at once, before its transaction commits or rolls back",
        (
            Edit(
                FINISH,
                '    if connection.vendor == "postgresql":\n        sql = (',
                '    if connection.vendor == "postgresql":\n'
                + _ELSEWHERE.format(
                    statement='f"DELETE FROM {keys.KEYS} WHERE entry_id = %s", [claim.entry]',
                    then="pass",
                )
                + "        sql = (",
            ),
        ),
        (T_KEY_RACES,),
        database="postgres",
    ),
    Bug(
        "key-free-while-the-body-runs",
        "the start of every attempt frees the key, not only of those that block while they wait",
        (Edit(ARRIVAL, "if hold is None or hold.blocks != LIVE:", "if True:"),),
        (T_LIFE,),
        quick=True,
    ),
    Bug(
        "key-free-during-a-retry",
        "an attempt that failed frees the key, though its entry goes on",
        (
            Edit(
                AGAIN,
                '        _block_again(claim, now)\n        reach("fail.written")',
                '        keys.release([claim.entry])\n        reach("fail.written")',
            ),
        ),
        (T_LIFE, T_KEY_LIVES),
    ),
    Bug(
        "retry-does-not-block",
        "with blocks='waiting', an entry that waits for its retry does not take its key again",
        (
            Edit(
                AGAIN,
                '        _block_again(claim, now)\n        reach("fail.written")',
                '        reach("fail.written")',
            ),
        ),
        (T_LIFE,),
    ),
    Bug(
        "released-entry-does-not-block",
        "with blocks='waiting', an entry that a stopping worker gives back has lost its key",
        (
            Edit(
                AGAIN,
                '        _block_again(claim, now)\n        reach("release.written")',
                '        reach("release.written")',
            ),
        ),
        (T_LIFE,),
    ),
    Bug(
        "rescued-entry-does-not-block",
        "with blocks='waiting', an entry that is rescued does not take its key again",
        (Edit(RESCUE, "    _block_again(waiting, now)\n", ""),),
        (T_LIFE,),
        quick=True,
    ),
    Bug(
        "rescue-waits-for-a-key",
        "one open transaction that takes the key of a lost entry keeps all others from a rescue",
        (Edit(RESCUE, "if sqlstate(error) != _LOCK_TIMEOUT:", "if True:"),),
        (RACES + "/test_locks.py",),
        database="postgres",
    ),
    Bug(
        "start-of-a-fenced-attempt-frees-the-key",
        "an attempt that has lost its entry frees the key of what waits again",
        (
            Edit(
                KEYRING,
                "    running = f\"id = %s AND state = '{State.RUNNING}' AND attempt = %s\"",
                '    running = "id = %s AND %s > 0"',
            ),
        ),
        (T_KEY_RACES,),
    ),
    Bug(
        "key-outlives-a-success",
        "a success does not free its key",
        (
            Edit(
                KEYS,
                'return f"DELETE FROM {KEYS} WHERE entry_id", []',
                'return f"UPDATE {KEYS} SET until = NULL WHERE entry_id", []',
            ),
        ),
        (T_LIFE, T_KEY_LIVES),
    ),
    Bug(
        "key-outlives-a-death",
        "a dead letter keeps its key, though its policy does not say so",
        (
            Edit(
                FINISH, "            keys.release([claim.entry], died=True)\n", "            pass\n"
            ),
        ),
        (T_LIFE, T_KEY_LIVES),
        quick=True,
    ),
    Bug(
        "key-outlives-the-last-crash",
        "an entry that dies because its process was lost once too often keeps its key",
        (Edit(RESCUE, "    keys.release(ended[State.DEAD], died=True)\n", ""),),
        (T_LIFE,),
    ),
    Bug(
        "key-outlives-an-expiry",
        "an entry that expires keeps its key",
        (
            Edit(
                EXPIRE,
                "keys.release([row.pk for row in rows if row.key is not None])",
                "keys.release([])",
            ),
        ),
        (T_LIFE,),
    ),
    Bug(
        "expired-entry-blocks-until-it-is-swept",
        "a call is refused because of an entry that will never run, until a sweeper comes",
        (Edit(CONFLICTS, "if isinstance(outcome, Conflict) and outcome.expired:", "if False:"),),
        (T_LIFE, T_CONFLICTS),
    ),
    Bug(
        "expiry-of-what-runs",
        "a call ends its holder, whose expires has passed, under its attempt's feet",
        (
            Edit(
                EXPIRE,
                "pk__in=entry_ids, state__in=WAITING)",
                "pk__in=entry_ids)",
            ),
            Edit(
                EXPIRE, "for row in rows], state__in=WAITING).update(", "for row in rows]).update("
            ),
        ),
        (T_KEY_RACES, T_KEY_LIVES),
    ),
    Bug(
        "key-outlives-a-cancel",
        "an entry that is cancelled while it waits keeps its key",
        (Edit(OPERATE, "        keys.release(keyed)\n", ""),),
        (T_LIFE, T_KEY_RACES),
    ),
    Bug(
        "key-outlives-a-discard",
        "a dead letter that is given up keeps the key that it had as a dead one",
        (
            Edit(
                OPERATE,
                "            keys.release([row.pk for row in locked if row.key is not None])\n",
                "",
            ),
        ),
        (T_LIFE,),
    ),
    Bug(
        "key-outlives-the-pruning-of-a-dead-letter",
        "a dead letter that is pruned leaves the key behind that it had as a dead one",
        (Edit(PRUNING, "if keyed and state is State.DEAD:", "if False:"),),
        (T_LIFE, T_KEY_LIVES),
    ),
    Bug(
        "death-always-frees",
        "a dead letter does not keep its key, though its policy says so",
        (Edit(KEYS, "        keys = keys.filter(holds_dead=False)\n", "        pass\n"),),
        (T_LIFE,),
    ),
    Bug(
        "window-forgotten",
        "a success frees the key at once, whatever the window",
        (Edit(KEYS, "if hold is None or not hold.lingers:", "if True:"),),
        (T_LIFE, T_KEY_LIVES),
    ),
    Bug(
        "window-ends-when-it-is-swept",
        "a window that has ended blocks until a sweeper tidies it away",
        (Edit(KEYS, "        lapsed = frees_in <= 0\n", "        lapsed = False\n"),),
        (T_LIFE, T_KEY_LIVES),
    ),
    Bug(
        "clear-of-a-key-that-is-held",
        "a call that found a key free deletes it also where somebody was faster",
        (
            Edit(
                KEYS, "WHERE digest = %s AND (until <= {at} ", "WHERE digest = %s AND ({at} > '1' "
            ),
        ),
        (T_CONFLICTS,),
    ),
    Bug(
        "refused-call-locks-the-key",
        "a call that is refused holds up the end of the holder until its caller's commit",
        (
            Edit(
                KEYS,
                'otherwise = unless_there(connection.vendor, "digest", "holds_dead")',
                'otherwise = " ON CONFLICT (digest) DO UPDATE SET text = excluded.text WHERE false"',
            ),
        ),
        (T_KEY_RACES,),
        database="postgres",
    ),
    Bug(
        "requeue-without-the-key",
        "an entry that is put back runs beside another one with its key",
        (
            Edit(
                OPERATE,
                "blocked = _take_keys(locked, now) if hold is None",
                "blocked = set() if hold is None",
            ),
        ),
        (T_LIFE, T_KEY_RACES, T_KEY_LIVES),
    ),
    Bug(
        "started-holder-refuses",
        "a call between the claim of the holder and the freeing of its key is refused",
        (Edit(CONFLICTS, "freed = ledger.free_started(outcome.entry)", "freed = False"),),
        (T_CONFLICTS,),
    ),
    Bug(
        "replaced-while-it-runs",
        "a call gives an entry other arguments while its body runs with the old ones",
        (
            Edit(
                ONCE,
                "pk=entry, state__in=WAITING, cancel_requested_at__isnull=True",
                "pk=entry",
            ),
        ),
        (T_CONFLICTS, T_KEY_RACES),
    ),
    Bug(
        "postponed-for-ever",
        "an entry that is called again and again never runs, whatever longest says",
        (Edit(ONCE, "        if longest is not None:\n", "        if False:\n"),),
        (T_CONFLICTS,),
    ),
    Bug(
        "idempotency-key-for-anything",
        "a call with other arguments passes for a repetition",
        (
            Edit(
                CONFLICTS,
                "if not policy.same_arguments or conflict.arguments",
                "if True or conflict.arguments",
            ),
        ),
        (T_CONFLICTS, T_FOLLOWING),
    ),
    Bug(
        "duplicate-in-a-canvas-is-refused",
        "a step of a chain whose key is held raises, and the chain waits for ever",
        (Edit(CONFLICTS, "        if follows:\n", "        if False:\n"),),
        (T_FOLLOWING,),
    ),
    Bug(
        "follower-works-too",
        "a duplicate in a chain runs its body beside the holder",
        (Edit(EXECUTION, "    if FOLLOWS in running.options:\n", "    if False:\n"),),
        (T_FOLLOWING,),
    ),
    Bug(
        "follower-works-without-the-key",
        "a follower whose holder was cancelled does the work, and takes no key for it",
        (
            Edit(
                FOLLOWING,
                "    held = ledger.take(hold, task.name, running.claim.entry)\n",
                "    held = None\n",
            ),
        ),
        (T_FOLLOWING,),
    ),
    Bug(
        "follower-ends-with-nothing",
        "a follower ends with None instead of the holder's result",
        (Edit(FOLLOWING, "    if ignored or isinstance(", "    if True or isinstance("),),
        (T_FOLLOWING,),
    ),
    Bug(
        "keys-of-two-tasks-meet",
        "equal arguments of two tasks are one key",
        (Edit(_P + "dedup/canonical.py", "_sha256([kind, task,", '_sha256([kind, "",'),),
        (T_KEYS,),
    ),
    Bug(
        "defaults-make-another-key",
        "a parameter that is left to its default makes another key than one that is passed",
        (
            Edit(
                _P + "keying.py",
                "    bound = bind(task, args, kwargs)\n",
                "    bound = signature_of(task).bind(*args, **kwargs)\n",
            ),
        ),
        (T_KEYS,),
    ),
)

BUGS: Final = (*ENQUEUING, *CLAIMING, *FINISHING, *SWEEPING, *OPERATING, *KEYING, *LOADING)
