from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('reliable_tasks', '0007_admin'),
    ]

    operations = [
        migrations.AddField(
            model_name='schedulestate',
            name='fired_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='schedulestate',
            name='ran_elsewhere_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name='schedulestate',
            name='pruned_until',
            field=models.DateTimeField(blank=True, null=True),
        ),
    ]
