import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    """There is a limit to what catch-up runs. Forms ask for it; the column stays as it is."""

    dependencies = [("reliable_tasks", "0011_attempt_index")]

    operations = [
        migrations.AlterField(
            "schedulepolicy",
            "catch_up_limit",
            models.PositiveIntegerField(
                default=10,
                help_text="Most late due times that run when catch-up is “all”; the newest ones.",
                validators=[
                    django.core.validators.MinValueValidator(1),
                    django.core.validators.MaxValueValidator(10_000),
                ],
            ),
        ),
    ]
