"""Every table of the app, as it starts."""

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="BeatTerm",
            fields=[
                ("name", models.CharField(max_length=32, primary_key=True, serialize=False)),
                ("holder", models.CharField(max_length=255, verbose_name="leader")),
                ("elected_at", models.DateTimeField(verbose_name="leads since")),
                ("expires_at", models.DateTimeField(verbose_name="leads until")),
            ],
            options={
                "verbose_name": "beat term",
                "verbose_name_plural": "beat terms",
            },
        ),
        migrations.CreateModel(
            name="ChordCounter",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("group_id", models.CharField(max_length=255, unique=True, verbose_name="group id")),
                ("size", models.IntegerField(verbose_name="parts expected")),
                ("done", models.IntegerField(default=0, verbose_name="parts done")),
                ("body", models.TextField(verbose_name="body")),
                ("date_created", models.DateTimeField(verbose_name="created at")),
                ("date_done", models.DateTimeField(blank=True, null=True, verbose_name="sent at")),
            ],
            options={
                "verbose_name": "chord",
                "verbose_name_plural": "chords",
            },
        ),
        migrations.CreateModel(
            name="DeadLetter",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("queue", models.CharField(max_length=255, verbose_name="queue")),
                ("priority", models.SmallIntegerField(default=0, verbose_name="priority")),
                ("task_id", models.CharField(db_index=True, max_length=255, verbose_name="task id")),
                ("task", models.CharField(max_length=255, verbose_name="task")),
                ("reason", models.CharField(db_index=True, max_length=64, verbose_name="reason")),
                ("detail", models.TextField(blank=True, verbose_name="detail")),
                ("deliveries", models.IntegerField(default=0, verbose_name="deliveries")),
                ("worker", models.CharField(blank=True, max_length=255, verbose_name="worker")),
                ("exchange", models.CharField(blank=True, max_length=255)),
                ("routing_key", models.CharField(blank=True, max_length=255)),
                ("content_type", models.CharField(max_length=64)),
                ("content_encoding", models.CharField(max_length=64)),
                ("headers", models.TextField(verbose_name="headers")),
                ("properties", models.TextField(verbose_name="properties")),
                ("body", models.BinaryField(verbose_name="body")),
                ("died_at", models.DateTimeField(db_index=True, verbose_name="died at")),
            ],
            options={
                "verbose_name": "dead letter",
                "verbose_name_plural": "dead letters",
                "ordering": ("-died_at",),
                "permissions": (("replay_deadletter", "Can replay dead letters"),),
            },
        ),
        migrations.CreateModel(
            name="GroupResult",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("group_id", models.CharField(max_length=255, unique=True, verbose_name="group id")),
                ("content_type", models.CharField(default="application/json", max_length=128, verbose_name="content type")),
                ("content_encoding", models.CharField(default="utf-8", max_length=64, verbose_name="encoding")),
                ("result", models.TextField(blank=True, null=True, verbose_name="members")),
                ("date_created", models.DateTimeField(verbose_name="created at")),
                ("date_done", models.DateTimeField(blank=True, null=True, verbose_name="done at")),
            ],
            options={
                "verbose_name": "group result",
                "verbose_name_plural": "group results",
                "ordering": ("-id",),
            },
        ),
        migrations.CreateModel(
            name="Queue",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=255, unique=True, verbose_name="name")),
                ("paused_at", models.DateTimeField(blank=True, null=True, verbose_name="paused at")),
                ("paused_by", models.CharField(blank=True, max_length=255, verbose_name="paused by")),
                ("reason", models.TextField(blank=True, verbose_name="reason")),
            ],
            options={
                "verbose_name": "queue",
                "verbose_name_plural": "queues",
                "ordering": ("name",),
                "permissions": (("purge_queue", "Can purge queues"), ("pause_queue", "Can pause and resume queues")),
            },
        ),
        migrations.CreateModel(
            name="Revocation",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("task_id", models.CharField(max_length=255, unique=True, verbose_name="task id")),
                ("terminate", models.BooleanField(default=False, verbose_name="stop it if it runs")),
                ("signal", models.CharField(default="SIGTERM", max_length=16, verbose_name="signal")),
                ("revoked_at", models.DateTimeField(db_index=True, verbose_name="revoked at")),
                ("revoked_by", models.CharField(blank=True, max_length=255, verbose_name="revoked by")),
            ],
            options={
                "verbose_name": "revocation",
                "verbose_name_plural": "revocations",
            },
        ),
        migrations.CreateModel(
            name="Worker",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("instance", models.CharField(max_length=64, unique=True)),
                ("name", models.CharField(db_index=True, max_length=255, verbose_name="name")),
                ("host", models.CharField(max_length=255, verbose_name="host")),
                ("pid", models.IntegerField(verbose_name="process id")),
                ("pool", models.CharField(max_length=32, verbose_name="pool")),
                ("concurrency", models.IntegerField(verbose_name="concurrency")),
                ("queues", models.JSONField(default=list, verbose_name="queues")),
                ("active", models.IntegerField(default=0, verbose_name="running tasks")),
                ("processed", models.BigIntegerField(default=0, verbose_name="finished tasks")),
                ("version", models.CharField(blank=True, max_length=32, verbose_name="version")),
                ("started_at", models.DateTimeField(verbose_name="started at")),
                ("heartbeat_at", models.DateTimeField(db_index=True, verbose_name="last heartbeat")),
                ("stopped_at", models.DateTimeField(blank=True, null=True, verbose_name="stopped at")),
            ],
            options={
                "verbose_name": "worker",
                "verbose_name_plural": "workers",
                "ordering": ("name", "-started_at"),
            },
        ),
        migrations.CreateModel(
            name="BeatRun",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("entry", models.CharField(max_length=255, verbose_name="periodic task")),
                ("due_at", models.DateTimeField(db_index=True, verbose_name="due at")),
                ("task_id", models.CharField(max_length=255, verbose_name="task id")),
                ("task", models.CharField(max_length=255, verbose_name="task")),
                ("sent_at", models.DateTimeField(blank=True, null=True, verbose_name="sent at")),
            ],
            options={
                "verbose_name": "periodic run",
                "verbose_name_plural": "periodic runs",
                "ordering": ("-due_at",),
                "constraints": [models.UniqueConstraint(fields=("entry", "due_at"), name="django_tasks_beatrun_once")],
            },
        ),
        migrations.CreateModel(
            name="ChordPart",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("group_id", models.CharField(max_length=255)),
                ("task_id", models.CharField(max_length=255)),
                ("position", models.IntegerField(null=True)),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("group_id", "task_id"), name="django_tasks_chordpart_once")],
            },
        ),
        migrations.CreateModel(
            name="Message",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("queue", models.CharField(max_length=255, verbose_name="queue")),
                ("priority", models.SmallIntegerField(default=0, verbose_name="priority")),
                (
                    "state",
                    models.SmallIntegerField(choices=[(0, "ready"), (1, "claimed"), (2, "delayed")], default=0, verbose_name="state"),
                ),
                ("until", models.DateTimeField(blank=True, null=True, verbose_name="until")),
                ("claimed_by", models.CharField(blank=True, max_length=255, null=True, verbose_name="claimed by")),
                ("deliveries", models.IntegerField(default=0, verbose_name="deliveries")),
                ("task_id", models.CharField(max_length=255, verbose_name="task id")),
                ("task", models.CharField(max_length=255, verbose_name="task")),
                ("content_type", models.CharField(max_length=64)),
                ("content_encoding", models.CharField(max_length=64)),
                ("headers", models.TextField(verbose_name="headers")),
                ("properties", models.TextField(verbose_name="properties")),
                ("body", models.BinaryField(verbose_name="body")),
                ("created_at", models.DateTimeField(verbose_name="created at")),
            ],
            options={
                "verbose_name": "queued message",
                "verbose_name_plural": "queued messages",
                "permissions": (("revoke_message", "Can revoke queued messages"), ("promote_message", "Can run delayed messages now")),
                "indexes": [
                    models.Index(
                        condition=models.Q(("state", 0)), fields=["state", "queue", "-priority", "id"], name="django_tasks_message_next"
                    ),
                    models.Index(condition=models.Q(("until__isnull", False)), fields=["state", "until"], name="django_tasks_message_due"),
                ],
            },
        ),
        migrations.CreateModel(
            name="TaskResult",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("task_id", models.CharField(max_length=255, verbose_name="task id")),
                ("periodic_task_name", models.CharField(blank=True, max_length=255, null=True, verbose_name="periodic task")),
                ("task_name", models.CharField(blank=True, max_length=255, null=True, verbose_name="task")),
                ("task_args", models.TextField(blank=True, null=True, verbose_name="positional arguments")),
                ("task_kwargs", models.TextField(blank=True, null=True, verbose_name="named arguments")),
                ("status", models.CharField(default="PENDING", max_length=50, verbose_name="state")),
                ("worker", models.CharField(blank=True, max_length=255, null=True, verbose_name="worker")),
                ("queue", models.CharField(blank=True, max_length=255, null=True, verbose_name="queue")),
                ("content_type", models.CharField(default="application/json", max_length=128, verbose_name="result content type")),
                ("content_encoding", models.CharField(default="utf-8", max_length=64, verbose_name="result encoding")),
                ("result", models.TextField(blank=True, null=True, verbose_name="result")),
                ("traceback", models.TextField(blank=True, null=True, verbose_name="traceback")),
                ("meta", models.TextField(blank=True, null=True, verbose_name="meta")),
                ("retries", models.IntegerField(default=0, verbose_name="retries")),
                ("runtime", models.FloatField(blank=True, null=True, verbose_name="run time (seconds)")),
                ("group_id", models.CharField(blank=True, max_length=255, null=True, verbose_name="group id")),
                ("root_id", models.CharField(blank=True, max_length=255, null=True, verbose_name="root id")),
                ("parent_id", models.CharField(blank=True, max_length=255, null=True, verbose_name="parent id")),
                ("date_created", models.DateTimeField(verbose_name="created at")),
                ("date_started", models.DateTimeField(blank=True, null=True, verbose_name="started at")),
                ("date_done", models.DateTimeField(blank=True, null=True, verbose_name="done at")),
            ],
            options={
                "verbose_name": "task result",
                "verbose_name_plural": "task results",
                "ordering": ("-id",),
                "permissions": (("rerun_taskresult", "Can run tasks again"), ("revoke_taskresult", "Can revoke tasks")),
                "indexes": [models.Index(fields=["date_done"], name="django_tasks_result_done")],
                "constraints": [models.UniqueConstraint(fields=("task_id",), name="django_tasks_result_once")],
            },
        ),
    ]
