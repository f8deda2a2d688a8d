"""On MySQL and MariaDB, let names be exact: no two queues are one there because of case, accents or spaces at the end."""

from typing import Any

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

#: What is looked up by equality or unique, and named by users or other programs.
EXACT = (
    ("Message", "queue"),
    ("Message", "claimed_by"),
    ("DeadLetter", "queue"),
    ("DeadLetter", "task_id"),
    ("Queue", "name"),
    ("TaskResult", "task_id"),
    ("GroupResult", "group_id"),
    ("ChordCounter", "group_id"),
    ("ChordPart", "group_id"),
    ("ChordPart", "task_id"),
    ("BeatRun", "entry"),
    ("Worker", "instance"),
    ("Revocation", "task_id"),
)


def make_exact(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Give the columns a collation that compares bytes and ignores nothing."""
    connection: Any = schema_editor.connection
    if connection.vendor != "mysql":
        return
    collation = "utf8mb4_nopad_bin" if connection.mysql_is_mariadb else "utf8mb4_0900_bin"
    for model_name, field_name in EXACT:
        model = apps.get_model("django_tasks", model_name)
        field = model._meta.get_field(field_name)
        exact = field.clone()
        exact.db_collation = collation
        exact.set_attributes_from_name(field_name)
        exact.model = model
        schema_editor.alter_field(model, field, exact)


class Migration(migrations.Migration):
    dependencies = [("django_tasks", "0001_initial")]
    # MySQL changes tables outside of transactions only.
    operations = [migrations.RunPython(make_exact, migrations.RunPython.noop, atomic=False, elidable=False)]
