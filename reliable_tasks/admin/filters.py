"""Filters that stay cheap on large tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from celery import current_app
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .. import overview


class QueueFilter(admin.SimpleListFilter):
    """The queues that are configured, consumed, or have live entries.

    Django's own filter would read every entry there is to find their queues.
    """

    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterator[tuple[str, str]]:
        """Return the queues to choose from."""
        names = {str(current_app.conf.task_default_queue), *current_app.amqp.queues}
        names.update(overview.live_queues())
        for worker in overview.workers():
            names.update(worker.queues)
        if chosen := self.value():
            names.add(chosen)
        return ((name, name) for name in sorted(names))

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list down."""
        queue = self.value()
        return queryset if queue is None else queryset.filter(queue=queue)
