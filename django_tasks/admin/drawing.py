"""A workflow drawn as SVG: time runs from left to right, an arrow leads from a task to what it sent or what waited for it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from django_tasks import states
from django_tasks.admin.display import TONES, page_of, seconds
from django_tasks.operations.workflows import Step, Workflow

WIDTH, HEIGHT, ACROSS, BETWEEN, MARGIN = 210, 46, 64, 14, 12
#: From so many members on a group's tasks of one name are drawn as one box.
MANY = 9
#: Longest name in a box.
_NAME = 28


@dataclass(slots=True)
class Box:
    """What is drawn in one place: a task, or many alike."""

    steps: list[Step]
    column: int = 0
    row: float = 0.0
    before: "set[int]" = field(default_factory=set)

    @property
    def x(self) -> int:
        """Left edge in pixels."""
        return MARGIN + self.column * (WIDTH + ACROSS)

    @property
    def y(self) -> int:
        """Upper edge in pixels."""
        return MARGIN + round(self.row * (HEIGHT + BETWEEN))


def draw(workflow: Workflow) -> SafeString:
    """Draw the workflow. Colours are classes, so that light and dark admins both fit."""
    boxes = _boxes(workflow)
    _columns(boxes)
    _rows(boxes)
    width = max(box.x for box in boxes) + WIDTH + MARGIN
    height = max(box.y for box in boxes) + HEIGHT + MARGIN
    arrows = format_html_join("", '<path class="dt-arrow" marker-end="url(#dt-tip)" d="{}"/>', _paths(boxes))
    drawn = format_html_join("", "{}", ((_box(box),) for box in boxes))
    return format_html(
        '<svg class="dt-workflow" role="img" aria-label="{}" width="{}" height="{}" viewBox="0 0 {} {}" xmlns="http://www.w3.org/2000/svg">'
        '<defs><marker id="dt-tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="dt-tip" d="M0 0 L8 4 L0 8 z"/></marker></defs>{}{}</svg>',
        _("The tasks of this workflow"), width, height, width, height, arrows, drawn,
    )  # fmt: skip


def _boxes(workflow: Workflow) -> list[Box]:
    """Put the many members of a group into one box, and every other task into one of its own."""
    alike: defaultdict[tuple[str, str], list[Step]] = defaultdict(list)
    for step in workflow.steps.values():
        alike[step.group_id or step.task_id, step.name].append(step)
    boxes: list[Box] = []
    place: dict[str, int] = {}
    for members in alike.values():
        for some in [members] if len(members) >= MANY else [[step] for step in members]:
            place.update((step.task_id, len(boxes)) for step in some)
            boxes.append(Box(some))
    for begin, end in workflow.arrows:
        if place[begin] != place[end]:
            boxes[place[end]].before.add(place[begin])
    return boxes


def _columns(boxes: Sequence[Box]) -> None:
    # The longest way from a beginning. Bounded, since a task that sends its own ancestor would go round for ever.
    for _round in range(len(boxes)):
        moved = False
        for box in boxes:
            wanted = min(len(boxes) - 1, max((boxes[index].column + 1 for index in box.before), default=0))
            moved, box.column = moved or wanted > box.column, max(box.column, wanted)
        if not moved:
            return


def _rows(boxes: Sequence[Box]) -> None:
    """Stack each column, in the order of what its boxes come from, around one middle line."""
    columns: defaultdict[int, list[Box]] = defaultdict(list)
    for box in boxes:
        columns[box.column].append(box)
    tallest = max(len(column) for column in columns.values())
    for number in sorted(columns):
        column = sorted(columns[number], key=lambda box: _mean(boxes[index].row for index in box.before if boxes[index].column < number))
        for position, box in enumerate(column):
            box.row = position + (tallest - len(column)) / 2


def _mean(rows: Iterable[float]) -> float:
    listed = list(rows)
    return sum(listed) / len(listed) if listed else 0.0


def _paths(boxes: Sequence[Box]) -> Iterable[tuple[str]]:
    for box in boxes:
        for index in sorted(box.before):
            begin, end = boxes[index], box
            x, y, to_x, to_y = begin.x + WIDTH, begin.y + HEIGHT // 2, end.x, end.y + HEIGHT // 2
            yield (f"M{x} {y} C{x + ACROSS // 2} {y} {to_x - ACROSS // 2} {to_y} {to_x} {to_y}",)


def _box(box: Box) -> SafeString:
    first = box.steps[0]
    counted = Counter(step.status for step in box.steps)
    name = first.name or _("(not started)")
    title = name if len(box.steps) > 1 else f"{name} {first.task_id}"
    many = f" \N{MULTIPLICATION SIGN} {len(box.steps)}" if len(box.steps) > 1 else ""
    shape = format_html(
        '<rect class="dt-node dt-node-{}" x="{}" y="{}" width="{}" height="{}" rx="6"/>{}'
        '<text class="dt-name" x="{}" y="{}">{}</text><text class="dt-state" x="{}" y="{}">{}</text>',
        _tone(counted), box.x, box.y, WIDTH, HEIGHT, _shares(box, counted),
        box.x + 10, box.y + 19, _cut(name) + many, box.x + 10, box.y + 36, _said(box, counted),
    )  # fmt: skip
    address = page_of("taskresult", first.pk) if first.pk and len(box.steps) == 1 else None
    whole = format_html('<g class="dt-box" data-states="{}"><title>{}</title>{}</g>', " ".join(sorted(counted)), title, shape)
    return format_html('<a href="{}">{}</a>', address, whole) if address else whole


def _tone(counted: Mapping[str, int]) -> str:
    if counted.get(states.FAILURE) or counted.get(states.REVOKED):
        return "bad"
    return TONES.get(next(iter(counted)), "plain") if len(counted) == 1 else "busy"


def _shares(box: Box, counted: Mapping[str, int]) -> SafeString:
    """Draw a bar along the lower edge of a box of many: which share of them is in which state."""
    if len(box.steps) == 1:
        return SafeString("")
    parts, x = [], float(box.x)
    for state, number in sorted(counted.items()):
        width = WIDTH * number / len(box.steps)
        parts.append((TONES.get(state, "plain"), f"{x:.1f}", box.y + HEIGHT - 5, f"{width:.1f}"))
        x += width
    return format_html_join("", '<rect class="dt-share dt-share-{}" x="{}" y="{}" width="{}" height="5"/>', parts)


def _said(box: Box, counted: Mapping[str, int]) -> str:
    if len(box.steps) > 1:
        return ", ".join(f"{number} {state}" for state, number in sorted(counted.items()))
    step = box.steps[0]
    return step.status if step.runtime is None else f"{step.status} · {seconds(step.runtime)}"


def _cut(name: str) -> str:
    # The end of a dotted name tells most.
    return name if len(name) <= _NAME else "…" + name[-(_NAME - 1) :]
