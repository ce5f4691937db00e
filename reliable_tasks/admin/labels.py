"""Which models entries may be about, by the names that people have for them."""

from __future__ import annotations

from celery import current_app
from django.apps import apps

from ..plan import plan_of
from ..subject import subject_of
from ..task import ReliableTask


def labels_of(text: str) -> list[str]:
    """Return the labels of the models that a name may mean.

    Args:
        text: ``shop.Order``, or a model's name alone, in any case.
    """
    name = text.strip().lower()
    if "." in name:
        return [name]
    models = (model for model in apps.get_models() if model._meta.model_name == name)
    return sorted(model._meta.label_lower for model in models)


def label_of(text: str) -> str:
    """Return the one label that a name means, or the name where there are none or several.

    Args:
        text: as :func:`labels_of` takes it.
    """
    found = labels_of(text)
    return found[0] if len(found) == 1 else text.strip().lower()


def known_labels() -> list[str]:
    """Return the labels of the models that the tasks of this process are about."""
    found: set[str] = set()
    for task in current_app.tasks.values():
        plan = plan_of(task) if isinstance(task, ReliableTask) else None
        if plan is not None:
            found.update(subject_of(plan.models[name].model, 0).type for name in plan.subject)
    return sorted(found)
