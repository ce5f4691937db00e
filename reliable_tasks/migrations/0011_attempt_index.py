import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """The index of the attempts' unique constraint begins with the entry: a second one is waste."""

    dependencies = [("reliable_tasks", "0010_mariadb")]

    operations = [
        migrations.AlterField(
            "attempt",
            "entry",
            models.ForeignKey(
                "reliable_tasks.entry",
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="attempts",
                verbose_name="entry",
            ),
        ),
    ]
