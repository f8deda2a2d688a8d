"""Signal receivers: they watch, and change nothing."""

from typing import Any

from django_tasks.log import get_task_logger
from django_tasks.signals import task_failure, worker_ready
from shop import tasks

logger = get_task_logger(__name__)


@worker_ready.connect
def greet(sender: Any = None, **kwargs: Any) -> None:
    """Tell that a worker is there."""
    logger.info("the kettle is on")


@task_failure.connect(sender=tasks.import_prices)
def order_a_human(sender: Any = None, task_id: str = "", exception: BaseException | None = None, **kwargs: Any) -> None:
    """Tell who has to look at a failure of one particular task."""
    logger.warning("price list: please look at %s (%s)", task_id, exception)
