from django.db import migrations, models


class Migration(migrations.Migration):
    """When a sweeper last published an entry. Empty for those that none has published since."""

    dependencies = [("reliable_tasks", "0013_reset_runs")]

    operations = [
        migrations.AddField(
            "entry",
            "published_at",
            models.DateTimeField(
                blank=True, null=True, verbose_name="last published by a sweeper"
            ),
        ),
    ]
