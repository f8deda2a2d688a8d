"""Settings of Celery's own result backends, handed to them as they are; defaults are Celery's."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from django_tasks.conf_options.forms import NONE, NUMBER, Option, count, flag, text

_MAPPING: Final = (dict, NONE)


def _mapping(doc: str) -> Option:
    return Option(default=None, types=_MAPPING, doc=doc)


def _seconds(default: float | None, doc: str) -> Option:
    return Option(default=default, types=NUMBER if default is not None else (*NUMBER, NONE), doc=doc, at_least=0)


CELERY_BACKENDS: Final[Mapping[str, Option]] = MappingProxyType(
    {
        "ARANGODB_BACKEND_SETTINGS": _mapping("Of arangodb:// results: host, port, database, collection, username, password."),
        "AZUREBLOCKBLOB_BASE_PATH": text("", "Put before the names of azureblockblob:// results."),
        "AZUREBLOCKBLOB_CONNECTION_TIMEOUT": _seconds(20, "Seconds in which Azure's blob store must accept a connection."),
        "AZUREBLOCKBLOB_CONTAINER_NAME": text("celery", "The container of azureblockblob:// results."),
        "AZUREBLOCKBLOB_READ_TIMEOUT": _seconds(120, "Seconds in which Azure's blob store must answer."),
        "AZUREBLOCKBLOB_RETRY_INCREMENT_BASE": count(2, "Growth of the pause between tries at Azure's blob store."),
        "AZUREBLOCKBLOB_RETRY_INITIAL_BACKOFF_SEC": count(2, "Seconds before the second try at Azure's blob store."),
        "AZUREBLOCKBLOB_RETRY_MAX_ATTEMPTS": count(3, "Tries at Azure's blob store."),
        "CACHE_BACKEND_OPTIONS": Option(default={}, types=(dict,), doc="Options of the memcached client of cache+memcached:// results."),
        "CASSANDRA_AUTH_KWARGS": Option(default=None, types=_MAPPING, doc="Arguments of CASSANDRA_AUTH_PROVIDER."),
        "CASSANDRA_AUTH_PROVIDER": text(None, "Class of cassandra.auth that logs in, such as PlainTextAuthProvider."),
        "CASSANDRA_ENTRY_TTL": _seconds(None, "Seconds after which Cassandra deletes a result; None: never."),
        "CASSANDRA_KEYSPACE": text(None, "The keyspace of cassandra:// results."),
        "CASSANDRA_OPTIONS": Option(default={}, types=(dict,), doc="Further arguments of cassandra.cluster.Cluster."),
        "CASSANDRA_PORT": Option(default=None, types=(int, str, NONE), doc="Port of Cassandra; None means 9042."),
        "CASSANDRA_READ_CONSISTENCY": text(None, "Consistency of reading from Cassandra; None means LOCAL_QUORUM."),
        "CASSANDRA_SECURE_BUNDLE_PATH": text(None, "Astra's connection bundle, instead of CASSANDRA_SERVERS."),
        "CASSANDRA_SERVERS": Option(default=None, types=(list, tuple, NONE), doc="Hosts of Cassandra."),
        "CASSANDRA_TABLE": text(None, "The table of cassandra:// results."),
        "CASSANDRA_WRITE_CONSISTENCY": text(None, "Consistency of writing to Cassandra; None means LOCAL_QUORUM."),
        "COSMOSDBSQL_COLLECTION_NAME": text("celerycol", "The collection of cosmosdbsql:// results."),
        "COSMOSDBSQL_CONSISTENCY_LEVEL": text("Session", "Consistency level of Cosmos DB."),
        "COSMOSDBSQL_DATABASE_NAME": text("celerydb", "The database of cosmosdbsql:// results."),
        "COSMOSDBSQL_MAX_RETRY_ATTEMPTS": count(9, "Tries at Cosmos DB."),
        "COSMOSDBSQL_MAX_RETRY_WAIT_TIME": _seconds(30, "Seconds over which tries at Cosmos DB go on."),
        "COUCHBASE_BACKEND_SETTINGS": _mapping("Of couchbase:// results: host, port, bucket, username, password."),
        "DATABASE_CREATE_TABLES_AT_SETUP": flag(True, "Create the tables of db+…:// results before the first one is stored."),
        "DATABASE_ENGINE_CALLBACK": Option(
            default=None, types=(object,), doc="Called with SQLAlchemy's engine once it is made: a function, or its dotted path."
        ),
        "DATABASE_ENGINE_OPTIONS": Option(
            default={"pool_pre_ping": True, "pool_recycle": 3600},
            types=_MAPPING,
            doc="Options of SQLAlchemy's engine for db+…:// results.",
        ),
        "DATABASE_SHORT_LIVED_SESSIONS": flag(False, "Make SQLAlchemy's session factory anew for every use."),
        "DATABASE_TABLE_NAMES": _mapping("Names of the tables of db+…:// results: those of 'task' and 'group'."),
        "DATABASE_TABLE_SCHEMAS": _mapping("Schemas of the tables of db+…:// results: those of 'task' and 'group'."),
        "DYNAMODB_ENDPOINT_URL": text(None, "Address of dynamodb:// results instead of Amazon's."),
        "ELASTICSEARCH_MAX_RETRIES": count(None, "Tries at Elasticsearch; None means 3."),
        "ELASTICSEARCH_RETRY_ON_TIMEOUT": Option(
            default=None, types=(bool, NONE), doc="Try Elasticsearch again when it does not answer in time."
        ),
        "ELASTICSEARCH_SAVE_META_AS_TEXT": flag(True, "Store a result in Elasticsearch as one text, not as fields that can be searched."),
        "ELASTICSEARCH_TIMEOUT": _seconds(None, "Seconds in which Elasticsearch must answer; None means 10."),
        "FIRESTORE_PROJECT": text(None, "Project of Firestore, beside gs:// results; None means GCS_PROJECT."),
        "GCS_BASE_PATH": text("", "Put before the names of gs:// results."),
        "GCS_BUCKET": text(None, "The bucket of gs:// results."),
        "GCS_PROJECT": text(None, "The Google Cloud project of gs:// results."),
        "GCS_THREADPOOL_MAXSIZE": count(10, "Threads with which gs:// results are read.", at_least=1),
        "GCS_TTL": _seconds(0, "Seconds after which gs:// results are deleted by the store; 0: never."),
        "MONGODB_BACKEND_SETTINGS": _mapping("Of mongodb:// results: database, taskmeta_collection, groupmeta_collection, options …."),
        "S3_ACCESS_KEY_ID": text(None, "Access key of s3:// results; None: boto3 finds one."),
        "S3_BASE_PATH": text(None, "Put before the names of s3:// results."),
        "S3_BUCKET": text(None, "The bucket of s3:// results."),
        "S3_ENDPOINT_URL": text(None, "Address of s3:// results instead of Amazon's."),
        "S3_REGION": text(None, "Region of s3:// results."),
        "S3_SECRET_ACCESS_KEY": text(None, "Secret of S3_ACCESS_KEY_ID."),
    }
)
