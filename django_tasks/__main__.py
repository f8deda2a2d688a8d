"""``python -m django_tasks migrate_from_celery PATH``: read a project that has not installed this package yet.

Everything else belongs to a project: ``python manage.py tasks``.
"""

import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import execute_from_command_line

USAGE = "usage: python -m django_tasks migrate_from_celery [--check] [--json] [--diff] PATH ...\nFor all else: python manage.py tasks"


def main() -> None:
    """Run the one command that needs no project, with settings of its own."""
    if sys.argv[1:2] != ["migrate_from_celery"]:
        sys.exit(USAGE)
    # A project's own celery.py, or kombu.py, must not be imported in the place of the packages.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != Path.cwd()]
    settings.configure(
        INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_celery_beat", "django_tasks"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()
    execute_from_command_line([sys.argv[0], "tasks", *sys.argv[1:]])


if __name__ == "__main__":
    main()
