"""The settings of connections to brokers, and of results outside the database."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from django_tasks.conf_options.forms import NONE, NUMBER, Option, count, duration, flag, text

TRANSPORTS: Final[Mapping[str, Option]] = MappingProxyType(
    {
        "BROKER_TRANSPORT_OPTIONS": Option(
            default={}, types=(dict,), doc="Options of the transport: redis-py's, or those of kombu's transport of the scheme."
        ),
        "BROKER_USE_SSL": Option(default=False, types=(bool, dict), doc="TLS to the broker: True, or the ssl module's options."),
        "BROKER_CONNECTION_TIMEOUT": duration(4.0, "Seconds in which a connection to the broker must be there.", at_least=0.1),
        "BROKER_CONNECTION_RETRY": flag(True, "A worker whose broker is away tries again until it is back. False: it ends."),
        "BROKER_CONNECTION_RETRY_ON_STARTUP": Option(
            default=None, types=(bool, NONE), doc="The same at the start of a worker; None means BROKER_CONNECTION_RETRY."
        ),
        "BROKER_CONNECTION_MAX_RETRIES": count(None, "How often a worker tries to reach its broker before it ends; None: for ever."),
        "BROKER_FAILOVER_STRATEGY": Option(
            default=None, types=(str, NONE), doc="Order of a fail-over list.", choices=(None, "round-robin", "shuffle")
        ),
        "BROKER_HEARTBEAT": Option(
            default=120, types=(*NUMBER, NONE), doc="Seconds between AMQP heartbeats; 0 or None switches them off.", at_least=0
        ),
        "BROKER_LOGIN_METHOD": text(None, "AMQP's login method: PLAIN, AMQPLAIN, EXTERNAL."),
        "BROKER_POOL_LIMIT": count(10, "Most connections that one process keeps for publishing; 0 opens one a call."),
        "BROKER_POOL_ACQUIRE_TIMEOUT": duration(None, "Seconds to wait for a connection of the pool; None: BROKER_CONNECTION_TIMEOUT."),
        "BROKER_NATIVE_DELAYED_DELIVERY_QUEUE_TYPE": text(
            "quorum", "Type of the queues in which RabbitMQ keeps delayed messages.", choices=("quorum", "classic")
        ),
        "EVENT_EXCHANGE": text("celeryev", "Exchange of monitoring events."),
        "EVENT_QUEUE_DURABLE": flag(False, "Whether the queue of a receiver of events survives RabbitMQ's restart; not with EXCLUSIVE."),
        "EVENT_QUEUE_EXCLUSIVE": flag(True, "Whether that queue belongs to the receiver's connection alone."),
        "EVENT_QUEUE_EXPIRES": duration(
            60.0, "Seconds after which a queue of events that nobody reads is deleted; with db://, how long events are kept."
        ),
        "EVENT_QUEUE_PREFIX": text("celeryev", "What the names of those queues begin with."),
        "EVENT_QUEUE_TTL": duration(5.0, "Seconds after which an event that was not read is dropped from such a queue."),
        "EVENT_SERIALIZER": text("json", "Serializer of events."),
        "TASK_CREATE_MISSING_QUEUE_TYPE": text("classic", "Type of queues that TASK_QUEUES does not list.", choices=("classic", "quorum")),
        "TASK_CREATE_MISSING_QUEUE_EXCHANGE_TYPE": text(None, "Type of the exchanges of queues that TASK_QUEUES does not list."),
        "TASK_DEFAULT_DELIVERY_MODE": Option(
            default=2,
            types=(int, str),
            doc="Whether messages survive RabbitMQ's restart: 2 says yes, 1 no.",
            choices=(1, 2, "transient", "persistent"),
        ),
        "TASK_DEFAULT_QUEUE_TYPE": text("classic", "Type of the default queue.", choices=("classic", "quorum")),
        "TASK_QUEUE_MAX_PRIORITY": count(None, "Declares RabbitMQ's queues with this many priorities.", at_least=1, at_most=255),
        "TASK_PUBLISH_OUTBOX": flag(
            False, "Inside a transaction, write messages as rows of it; a worker hands them to the broker after the commit."
        ),
        "TASK_OUTBOX_DATABASE": text("default", "The database of the outbox, and of delayed messages that the broker can't keep."),
        "REDIS_BACKEND_USE_SSL": Option(default=None, types=(bool, dict, NONE), doc="TLS to the Redis server of the results."),
        "REDIS_MAX_CONNECTIONS": count(None, "Most connections that one process opens to the Redis server of the results.", at_least=1),
        "REDIS_SOCKET_CONNECT_TIMEOUT": duration(None, "Seconds in which that server must accept a connection."),
        "REDIS_SOCKET_KEEPALIVE": flag(False, "Send TCP keepalives to that server."),
        "REDIS_SOCKET_TIMEOUT": duration(120.0, "Seconds in which that server must answer."),
        "RESULT_BACKEND_TRANSPORT_OPTIONS": Option(
            default={}, types=(dict,), doc="Options of the result backend's client: global_keyprefix, master_name, redis-py's ..."
        ),
        "RESULT_CHORD_JOIN_TIMEOUT": duration(
            3.0, "Seconds for which whoever completes a chord is taken to be alive before another one sends its body.", at_least=0.1
        ),
        "RESULT_PERSISTENT": Option(default=None, types=(bool, NONE), doc="Whether rpc:// results survive a restart of the broker."),
    }
)
