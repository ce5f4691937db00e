"""Give MariaDB and MySQL the indexes that Django leaves out there.

The ledger's indexes are partial, or name their columns as expressions; Django skips both kinds on these
databases. So the same columns are indexed there as plain ones.
"""

from collections.abc import Iterator

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def _skipped(apps: Apps) -> Iterator[tuple[type[models.Model], models.Index]]:
    for model in apps.get_app_config('reliable_tasks').get_models():
        for index in model._meta.indexes:
            if not model._meta.proxy and (index.condition is not None or index.expressions):
                columns = (each.deconstruct()[1] for each in index.expressions)
                fields = [name for (name,) in columns] or index.fields
                yield model, models.Index(fields=fields, name=index.name)


def add(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == 'mysql':
        for model, index in _skipped(apps):
            schema_editor.add_index(model, index)


def remove(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    if schema_editor.connection.vendor == 'mysql':
        for model, index in _skipped(apps):
            schema_editor.remove_index(model, index)


class Migration(migrations.Migration):

    dependencies = [
        ('reliable_tasks', '0008_schedule_marks'),
    ]

    operations = [migrations.RunPython(add, remove, atomic=False)]
