"""Between an entry and Celery's request: what one has and the other needs."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from celery import states as celery_states

from .appconf import appconf
from .arguments import for_request
from .ledger import Claim
from .options import as_uuid, entry_id, listed
from .wakeup import MARK

if TYPE_CHECKING:
    from .task import ReliableTask

logger = logging.getLogger("reliable_tasks.execution")


def restore(
    task: ReliableTask,
    claim: Claim,
    kept: dict[str, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> None:
    """Give ``self.request`` what the message did not carry, so that Celery goes on from there.

    Args:
        task: the task that is about to run.
        claim: its claim.
        kept: the entry's options.
        args: the entry's positional arguments, as they may be shown.
        kwargs: the entry's keyword arguments, likewise.
    """
    request = task.request
    # The same list and dict that Celery later hands to on_success and after_return.
    if isinstance(request.args, list) and not request.args:
        request.args.extend(args)
    else:
        request.args = args
    if isinstance(request.kwargs, dict) and not request.kwargs:
        request.kwargs.update(kwargs)
    else:
        request.kwargs = kwargs
    request.retries = claim.retries
    if request.is_eager:
        return
    request.callbacks = listed(kept.get("link"))
    request.errbacks = listed(kept.get("link_error"))
    request.chain = kept.get("chain")
    request.chord = kept.get("chord")
    request.group = str(claim.group_id) if claim.group_id else None
    request.group_index = kept.get("group_index")
    request.root_id = str(claim.root_id) if claim.root_id else request.id
    request.parent_id = str(claim.parent_id) if claim.parent_id else None
    request.headers = kept.get("headers") or {}
    for name in (
        "ignore_result",
        "timelimit",
        "replaced_task_nesting",
        "stamped_headers",
        "stamps",
    ):
        if name in kept:
            setattr(request, name, kept[name])


def hide(task: ReliableTask, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Mask what is sensitive in a request whose message had arguments, before Celery shows it.

    Args:
        task: its task.
        args: positional arguments.
        kwargs: keyword arguments.
    """
    shown_args, shown_kwargs = for_request(task, args, kwargs)
    if shown_args is args:
        return
    request = task.request
    request.args, request.kwargs = shown_args, shown_kwargs
    request.argsrepr, request.kwargsrepr = repr(shown_args), repr(shown_kwargs)


def report_started(task: ReliableTask) -> None:
    """Store Celery's STARTED state for the running attempt, where the project asks for it.

    Args:
        task: the task whose attempt has been claimed.
    """
    request = task.request
    ignored = vars(request).get("ignore_result", task.ignore_result)
    if ignored or request.is_eager or not appconf(task._get_app()).task_track_started:
        return
    meta = {"pid": os.getpid(), "hostname": request.hostname}
    try:
        task.backend.store_result(request.id, meta, celery_states.STARTED, request=request)
    except Exception as failed:  # a result backend that is down must not keep the body from running
        logger.warning("The result backend did not take the start of %s: %r", request.id, failed)


def entry_of(request: Any) -> UUID:
    """Return the id of the entry that a message is for.

    Args:
        request: Celery's request, in a task or in the worker's main process.
    """
    mark = _mark(request)
    return entry_id(request.id if mark in (None, 1) else mark)


def is_wakeup(request: Any) -> bool:
    """Tell whether a message was sent for an entry."""
    mark = _mark(request)
    return mark == 1 or as_uuid(mark) is not None


def _mark(request: Any) -> Any:
    known = getattr(request, "request_dict", None)  # in the worker's main process
    if known is not None:
        return known.get(MARK)
    return (request.headers or {}).get(MARK) or getattr(request, MARK, None)


def call_of(request: Any) -> dict[str, Any]:
    """Return the options with which a request was called, for the entry that is written of it.

    Args:
        request: Celery's request.
    """
    call: dict[str, Any] = request.as_execution_options()
    for name in ("task_id", "expires", "retries"):  # done with, by the time it runs
        call.pop(name, None)
    call["headers"] = {k: v for k, v in (request.headers or {}).items() if k != MARK}
    return call
