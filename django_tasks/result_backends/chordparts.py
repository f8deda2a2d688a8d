"""The parts of a complete chord, in the header's order, whatever has become of their results."""

from collections.abc import Callable, Mapping

from django_tasks import states
from django_tasks.exceptions import BackendGetMetaError
from django_tasks.messages import WireSignature
from django_tasks.result_backends.backend import ReadyChord, ResultMeta
from django_tasks.result_backends.encoding import encode_exception, encode_value

#: Says how patient to be; the package puts the settings' answer here, which this room does not know.
patience: Callable[[], float] = lambda: 22.0  # noqa: E731  replaced as a whole


def claim_patience() -> float:
    """Seconds for which whoever completes a chord may take to send its body, connecting to the broker a few times included."""
    return patience()


def place(position: int | None) -> tuple[bool, int]:
    """Sort key of a part's position; parts without one come last, in the order in which they were done."""
    return position is None, position or 0


def collected(group_id: str, positions: Mapping[str, int | None], found: Mapping[str, ResultMeta]) -> list[ResultMeta]:
    """Return the metas of the parts named in ``positions``, in order.

    In the place of one that is not found stands a FAILURE: a list that is shorter than the header would be a wrong answer.
    """
    order = sorted(positions, key=lambda task_id: place(positions[task_id]))
    return [found.get(task_id) or _lost(task_id, group_id, positions[task_id]) for task_id in order]


def ended(group_id: str, body: WireSignature, error: BaseException) -> ReadyChord:
    """Return a chord that ends with this error, as if a part had raised it."""
    return ReadyChord(group_id, body, [_failure(group_id, group_id, None, error)])


def _lost(task_id: str, group_id: str, position: int | None) -> ResultMeta:
    error = BackendGetMetaError(f"the result of {task_id} was deleted before the other parts of its chord were done")
    return _failure(task_id, group_id, position, error)


def _failure(task_id: str, group_id: str, position: int | None, error: BaseException) -> ResultMeta:
    text, content_type, content_encoding = encode_value(encode_exception(error))
    return ResultMeta(
        task_id=task_id,
        status=states.FAILURE,
        result=text,
        content_type=content_type,
        content_encoding=content_encoding,
        group_id=group_id,
        group_index=position,
    )
