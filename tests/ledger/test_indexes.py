"""The database has the indexes that the models declare."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connection

MODELS = [
    model
    for model in apps.get_app_config("reliable_tasks").get_models()
    if not model._meta.proxy and model._meta.indexes
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_declared_index_is_there(db, model):
    """Each index is in the database, also in one for which Django leaves out partial ones."""
    with connection.cursor() as cursor:
        table = model._meta.db_table
        there = connection.introspection.get_constraints(cursor, table)
    for index in model._meta.indexes:
        assert there[index.name]["index"], index.name
        if connection.vendor == "mysql":
            columns = [each.deconstruct()[1][0] for each in index.expressions] or index.fields
            assert there[index.name]["columns"] == columns
