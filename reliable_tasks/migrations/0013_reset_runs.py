from django.db import migrations, models

ACTS = [
    "requeue",
    "cancel",
    "discard",
    "pause",
    "resume",
    "release key",
    "run schedule",
    "backfill",
    "reset runs",
    "steer operation",
]

ACT = models.CharField(choices=[(act, act) for act in ACTS], max_length=32, verbose_name="act")


class Migration(migrations.Migration):
    """One more act that is put on record. The columns stay as they are."""

    dependencies = [("reliable_tasks", "0012_catch_up_most")]

    operations = [
        migrations.AlterField("operatoract", "act", ACT),
        migrations.AlterField("operation", "verb", ACT),
    ]
