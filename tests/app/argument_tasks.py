"""Tasks with models and with secrets, for the tests with real workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from celery import shared_task

from reliable_tasks import Load, ReliableTask
from tests.app.models import Effect

if TYPE_CHECKING:
    from tests.app.models import Item


@shared_task(base=ReliableTask, bind=True, atomic=True)
def note_item(self: ReliableTask, item: Item, others: list[Item] = ()) -> list[str]:  # type: ignore[assignment]
    """Leave an effect with the item's name, and return all names."""
    Effect.objects.create(name=item.name, entry_id=self.request.id, attempt=self.attempt)
    return [each.name for each in (item, *others)]


@shared_task(base=ReliableTask, on_missing="discard")
def discard_item(item: Annotated[Item, Load()]) -> None:
    """Do nothing with an item that is there."""


class OddError(Exception):
    """Has a text of its own, not made of its arguments."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token

    def __str__(self) -> str:
        return f"odd: {self.token}"


@shared_task(
    base=ReliableTask,
    bind=True,
    sensitive=("token", "more"),
    max_retries=1,
    retry_backoff=0.05,
    retry_jitter=False,
)
def use_token(self: ReliableTask, user: int, token: str, how: str = "", **more: Any) -> str:
    """Use a secret, and tell it in an exception if asked to."""
    if how == "raise":
        raise ValueError(f"user {user}: bad token {token}")
    if how == "nest":
        try:
            {}[token]
        except KeyError as error:
            raise RuntimeError("refused", token) from error
    if how == "retry":
        raise self.retry(args=(user, token), kwargs={}, countdown=0)
    if how == "retry with":
        raise self.retry(exc=ValueError(token), countdown=0)
    if how == "odd":
        raise OddError(token)
    return f"{len(token)} {sorted(more)}"
