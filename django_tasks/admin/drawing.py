"""A workflow drawn as SVG: time runs from left to right, an arrow leads from a task to what it sent or what waited for it."""

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
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
_NAME = 27


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
    for box, column in zip(boxes, _columns([box.before for box in boxes]), strict=True):
        box.column = column
    _leave_out_detours(boxes)
    _rows(boxes)
    width = max(box.x for box in boxes) + WIDTH + MARGIN
    height = max(box.y for box in boxes) + HEIGHT + MARGIN
    arrows = format_html_join("", '<path class="dt-arrow" marker-end="url(#dt-tip)" d="{}"/>', _paths(boxes))
    drawn = format_html_join("", "{}", ((_box(box),) for box in boxes))
    said = ", ".join(f"{number} {state}" for state, number in workflow.counts().items())
    # Not role="img": what is in an image is nothing to a screen reader, and here it is links.
    return format_html(
        '<svg class="dt-workflow" role="group" aria-labelledby="dt-title" aria-describedby="dt-said" width="{}" height="{}"'
        ' viewBox="0 0 {} {}" xmlns="http://www.w3.org/2000/svg"><title id="dt-title">{}</title><desc id="dt-said">{}</desc>'
        '<defs><marker id="dt-tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="dt-tip" d="M0 0 L8 4 L0 8 z"/></marker></defs>{}{}</svg>',
        width, height, width, height, _("The tasks of this workflow"),
        _("%(counts)s. Time runs from left to right; arrows lead from a task to what it sent, and to what waited for it.")
        % {"counts": said}, arrows, drawn,
    )  # fmt: skip


def _boxes(workflow: Workflow) -> list[Box]:
    """Put many alike into one box, and every other task into one of its own.

    Alike are a group's members of one name, and what has one name and stands in one column: the second steps of a group of chains.
    """
    columns = _step_columns(workflow)
    alike: defaultdict[tuple[str, str], list[Step]] = defaultdict(list)
    for step in workflow.steps.values():
        alike[step.group_id or "", step.name].append(step)
    beside: defaultdict[tuple[int, str], list[Step]] = defaultdict(list)
    together: list[list[Step]] = []
    for (group_id, _name), members in alike.items():
        if group_id and len(members) >= MANY:
            together.append(members)
        else:
            for step in members:
                beside[columns[step.task_id], step.name].append(step)
    for members in beside.values():
        together += [members] if len(members) >= MANY else [[step] for step in members]
    order = {task_id: number for number, task_id in enumerate(workflow.steps)}
    boxes = [Box(members) for members in sorted(together, key=lambda members: order[members[0].task_id])]
    place = {step.task_id: index for index, box in enumerate(boxes) for step in box.steps}
    for begin, end in workflow.arrows:
        if place[begin] != place[end]:
            boxes[place[end]].before.add(place[begin])
    return boxes


def _step_columns(workflow: Workflow) -> dict[str, int]:
    place = {task_id: number for number, task_id in enumerate(workflow.steps)}
    before: list[set[int]] = [set() for _ in place]
    for begin, end in workflow.arrows:
        before[place[end]].add(place[begin])
    return dict(zip(workflow.steps, _columns(before), strict=True))


def _columns(before: Sequence[AbstractSet[int]]) -> list[int]:
    """Return how far each stands from a beginning, by the longest way. A task that sends its own ancestor goes round: it is let through."""
    after: defaultdict[int, list[int]] = defaultdict(list)
    for number, sources in enumerate(before):
        for source in sources:
            after[source].append(number)
    waiting = [len(sources) for sources in before]
    found: list[int | None] = [None] * len(before)
    free = deque(number for number, count in enumerate(waiting) if not count)
    for candidate in range(len(before) + 1):
        while free:
            number = free.popleft()
            if found[number] is not None:
                continue
            found[number] = max((known + 1 for source in before[number] if (known := found[source]) is not None), default=0)
            for follower in after[number]:
                waiting[follower] -= 1
                if waiting[follower] <= 0:
                    free.append(follower)
        if candidate < len(before) and found[candidate] is None:
            free.append(candidate)
    return [column or 0 for column in found]


def _leave_out_detours(boxes: Sequence[Box]) -> None:
    """Leave out arrows beside a longer way: a task that sends a chord has sent its body, too, but the way leads through the parts."""
    above: dict[int, int] = {}
    for index in sorted(range(len(boxes)), key=lambda index: boxes[index].column):
        box = boxes[index]
        nearer = [source for source in box.before if boxes[source].column < box.column]
        # Bits of a number, since sets of ancestors of ancestors are large.
        implied = 0
        for source in nearer:
            implied |= above[source]
        box.before.difference_update([source for source in nearer if implied >> source & 1])
        above[index] = implied
        for source in nearer:
            above[index] |= 1 << source


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
    said = _said(box, counted)
    # An svg in the svg cuts off what is wider than the box: letters are of many widths.
    shape = format_html(
        '<rect class="dt-node dt-node-{}" x="{}" y="{}" width="{}" height="{}" rx="6"/>{}<svg x="{}" y="{}" width="{}" height="{}">'
        '<text class="dt-name" x="0" y="19">{}</text><text class="dt-state" x="0" y="36">{}</text></svg>',
        _tone(counted), box.x, box.y, WIDTH, HEIGHT, _shares(box, counted),
        box.x + 10, box.y, WIDTH - 16, HEIGHT, _cut(name, many) + many, said,
    )  # fmt: skip
    address = page_of("taskresult", first.pk) if first.pk and len(box.steps) == 1 else None
    role = "" if address else format_html(' role="img" aria-label="{}"', f"{name}{many}: {said}")
    whole = format_html('<g class="dt-box" data-states="{}"{}><title>{}</title>{}</g>', " ".join(sorted(counted)), role, title, shape)
    return format_html('<a href="{}" aria-label="{}">{}</a>', address, f"{name}: {said}", whole) if address else whole


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


def _cut(name: str, many: str) -> str:
    # The end of a dotted name tells most.
    most = _NAME - len(many)
    return name if len(name) <= most else "…" + name[-(most - 1) :]
