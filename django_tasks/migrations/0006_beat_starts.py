from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('django_tasks', '0005_revoked_stamps'),
    ]

    operations = [
        migrations.CreateModel(
            name='BeatStart',
            fields=[
                ('periodic_task_id', models.BigIntegerField(primary_key=True, serialize=False)),
                ('every', models.BigIntegerField()),
                ('since', models.DateTimeField()),
            ],
            options={
                'verbose_name': 'start of a periodic task',
                'verbose_name_plural': 'starts of periodic tasks',
                'default_permissions': (),
            },
        ),
    ]
