from django.db import migrations, models


class Migration(migrations.Migration):
    """When a person put an entry back: what an act on many leaves alone if it came later."""

    dependencies = [("reliable_tasks", "0014_published_at")]

    operations = [
        migrations.AddField(
            "entry",
            "requeued_at",
            models.DateTimeField(blank=True, null=True, verbose_name="requeued"),
        ),
    ]
