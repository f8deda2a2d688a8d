"""A Celery app with the tasks of the workflow tables."""

import json
import os
from types import SimpleNamespace

import celery
from celery import Celery, exceptions, result
from celery.canvas import StampingVisitor

from tests.workflows.tasks import declare, engine_of


def make_app() -> Celery:
    """Make the app of the environment's broker and results."""
    made = Celery("workflows", broker=os.environ["FLEET_BROKER_URL"], backend=os.environ["FLEET_RESULT_BACKEND"], set_as_current=True)
    made.conf.update(
        task_default_queue=os.environ["FLEET_QUEUE"],
        broker_transport_options=json.loads(os.environ["FLEET_TRANSPORT_OPTIONS"]),
        result_backend_transport_options=json.loads(os.environ["FLEET_RESULT_OPTIONS"]),
        broker_connection_retry_on_startup=True,
        task_acks_late=True,
        result_extended=True,
        worker_hijack_root_logger=False,
    )
    return made


def make_engine(app: Celery) -> SimpleNamespace:
    """Declare the tasks; return the names that the tables use."""
    return declare(
        engine_of(
            celery,
            exceptions,
            StampingVisitor,
            app=app,
            shared_task=app.task,
            Task=app.Task,
            AsyncResult=app.AsyncResult,
            GroupResult=app.GroupResult,
            result_from_tuple=lambda wire: result.result_from_tuple(wire, app=app),
            allow_join_result=result.allow_join_result,
        )
    )


app = make_app()
engine = make_engine(app)
app.finalize()
