"""The databases of these tests, and what a backend keeps."""

import pytest

everywhere = pytest.mark.django_db(databases=["default", "postgres", "mysql"])


committed = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


def kept(backend, *metas):
    found = backend.fetch([each.task_id for each in metas])
    return [found.get(each.task_id) for each in metas]
