"""A Celery app that nobody else sees, and the client libraries that its result backends need."""

from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import Final

from celery import Celery
from celery.app.backends import BACKEND_ALIASES

from django_tasks.conf import settings
from django_tasks.conf_options import CELERY_BACKENDS
from django_tasks.exceptions import ImproperlyConfigured

#: Scheme to Celery's extra that installs its client library, and a module of that library.
EXTRAS: Final = {
    "arangodb": ("arangodb", "pyArango"),
    "azureblockblob": ("azureblockblob", "azure.storage.blob"),
    "cassandra": ("cassandra", "cassandra"),
    "consul": ("consul", "consul"),
    "cosmosdbsql": ("cosmosdbsql", "pydocumentdb"),
    "couchbase": ("couchbase", "couchbase"),
    "couchdb": ("couchdb", "pycouchdb"),
    "database": ("sqlalchemy", "sqlalchemy"),
    "db": ("sqlalchemy", "sqlalchemy"),
    "dynamodb": ("dynamodb", "boto3"),
    "elasticsearch": ("elasticsearch", "elasticsearch"),
    "gs": ("gcs", "google.cloud.storage"),
    "mongodb": ("mongodb", "pymongo"),
    "s3": ("s3", "boto3"),
    **dict.fromkeys(("cache+memcache", "cache+memcached", "cache+pylibmc", "cache+pymemcache"), ("pymemcache", "pymemcache")),
}
#: Settings that Celery has under the same name in lower case, beside those of single backends.
_SHARED: Final = (
    *("RESULT_SERIALIZER", "RESULT_ACCEPT_CONTENT", "ACCEPT_CONTENT", "RESULT_EXPIRES", "RESULT_EXTENDED"),
    "RESULT_BACKEND_TRANSPORT_OPTIONS",
)
#: Schemes whose backend objects may be used by several threads at once: they keep nothing but a path, or an engine.
_THREAD_SAFE: Final = frozenset({"file", "db", "database"})


def schemes() -> list[str]:
    """Name the schemes that Celery has a backend for here, those of other packages included."""
    own = [scheme for scheme, path in BACKEND_ALIASES.items() if find_spec(path.rpartition("." if ":" not in path else ":")[0])]
    return sorted({*own, *(entry.name for entry in entry_points(group="celery.result_backends"))})


def require_library(scheme: str, shown: str) -> None:
    """Raise ImproperlyConfigured, which names what to install, where a scheme's client library is missing."""
    extra, module = EXTRAS.get(scheme) or EXTRAS.get(scheme.partition("+")[0]) or (None, None)
    try:
        found = module is None or find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise ImproperlyConfigured(f"RESULT_BACKEND {shown} needs {module}, which isn't installed: pip install 'celery[{extra}]'")


def private_app(url: str) -> Celery:
    """Make a Celery app that nobody else sees: not the current one, no loader's settings, no fix-ups, in no list of apps."""
    app = Celery("django_tasks.results", set_as_current=False, autofinalize=False, loader="celery.loaders.app:AppLoader", fixups=set())
    app.close()
    # Here, where no environment variable overrides it.
    app.backend_cls = url
    chosen = {name: getattr(settings, name) for name in settings if name in CELERY_BACKENDS and settings.is_configured(name)}
    shared = {name: getattr(settings, name) for name in _SHARED}
    # -1: nothing is cached in the client.
    app.conf.update({name.lower(): value for name, value in {**shared, **chosen}.items()}, result_cache_max=-1)
    app.conf.result_backend_thread_safe = url.partition(":")[0].partition("+")[0] in _THREAD_SAFE
    return app
