from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('django_tasks', '0004_events'),
    ]

    operations = [
        migrations.CreateModel(
            name='RevokedStamp',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('name', models.CharField(max_length=255, verbose_name='name')),
                ('value', models.TextField(verbose_name='value')),
                ('terminate', models.BooleanField(default=False, verbose_name='stop them if they run')),
                ('signal', models.CharField(default='SIGTERM', max_length=16, verbose_name='signal')),
                ('revoked_at', models.DateTimeField(db_index=True, verbose_name='revoked at')),
                ('revoked_by', models.CharField(blank=True, max_length=255, verbose_name='revoked by')),
            ],
            options={
                'verbose_name': 'revoked stamp',
                'verbose_name_plural': 'revoked stamps',
            },
        ),
    ]
