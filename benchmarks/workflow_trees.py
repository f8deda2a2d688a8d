"""Random workflows whose outcome is known: trees of chains, groups, chords, maps, replacements and retries, with failures among them.

Every task of a tree has a key, and leaves one line with it for each run. ``Tree.must`` are the keys that have to run,
``Tree.mustnt`` those that come after a failure.
"""

import os
import random
import time
from dataclasses import dataclass, field
from typing import Any

from django_tasks import chain, chord, group, shared_task

#: Values stay small, however deep a tree is.
MODULUS = 1_000_003


def note(request, key):
    """Write key, id and which message it was: one write, which a kill can't halve."""
    tag = request.delivery.tag if request.delivery else "-"
    log = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, f"{key} {request.id} {tag}\n".encode())
    finally:
        os.close(log)


def flat(values):
    """Add up numbers in lists in lists."""
    return sum(flat(value) if isinstance(value, list) else value for value in values) % MODULUS


def leaves(value):
    """Return the numbers in lists in lists: a group in a group is one group."""
    return [leaf for one in value for leaf in leaves(one)] if isinstance(value, list) else [value]


def pause():
    """Take a few milliseconds, now and then more."""
    time.sleep(random.choice((0, 0.002, 0.005, 0.02)))


@shared_task(bind=True)
def step(self, value, key, number):
    """Add a number."""
    pause()
    note(self.request, key)
    return (flat(value) if isinstance(value, list) else value) + number


@shared_task(bind=True)
def gather(self, values, key):
    """Add up what the parts of a chord returned."""
    pause()
    note(self.request, key)
    return flat(values)


@shared_task(bind=True)
def broken(self, value, key):
    """Fail."""
    pause()
    note(self.request, key)
    raise ValueError(key)


@shared_task(bind=True, max_retries=3)
def stubborn(self, value, key, number):
    """Add a number at the second try."""
    if not self.request.retries:
        raise self.retry(countdown=random.choice((0, 0.05)))
    return step.run(value, key, number)


@shared_task(bind=True)
def stand_in(self, value, key, numbers):
    """Let a chord or a chain run instead, which adds the numbers."""
    note(self.request, key)
    if len(numbers) % 2:
        raise self.replace(chain(step.s(value, f"{key}/0", numbers[0]), *(step.s(f"{key}/{i}", n) for i, n in enumerate(numbers[1:], 1))))
    raise self.replace(chord([step.s(value, f"{key}/{i}", n) for i, n in enumerate(numbers)], gather.s(f"{key}/body")))


@shared_task
def increment(value):
    """Add one; for maps."""
    return value + 1


class Failed(Exception):
    """What a tree's value is when a task in it fails: the keys of which one is named by the error."""


@dataclass
class Tree:
    """A workflow and what must come of it."""

    key: str
    canvas: Any = None
    value: Any = None
    #: Keys of tasks that fail, if the workflow does.
    failures: set[str] = field(default_factory=set)
    must: set[str] = field(default_factory=set)
    mustnt: set[str] = field(default_factory=set)
    #: Keys of bodies of chords.
    bodies: set[str] = field(default_factory=set)


class Grower:
    """Grows trees from a seed."""

    def __init__(self, seed, *, failures=0.02, replacements=True):
        self.random = random.Random(seed)
        self.failures = failures
        self.replacements = replacements
        self.count = 0

    def tree(self, number):
        """Grow one."""
        self.tree_ = Tree(f"w{number}")
        self.count = 0
        start = self.random.randrange(100)
        depth = self.random.choice((1, 2, 2, 3, 3))
        first, value, failed = self.task(start, first=True)
        steps = [first]
        for _ in range(self.random.randrange(1, 4)):
            sig, value, failed = self.node(value, depth, failed)
            steps.append(sig)
        if self.random.random() < 0.25:
            sig, value, failed = self.parallel(value, depth, failed, least=2)
            steps.append(sig)
        self.tree_.canvas = chain(*steps)
        self.tree_.value, self.tree_.failures = value, failed
        return self.tree_

    def new_key(self):
        """Name the next task."""
        self.count += 1
        return f"{self.tree_.key}.{self.count}"

    def runs(self, key, failed):
        """Note whether this task must run, or must not."""
        (self.tree_.mustnt if failed else self.tree_.must).add(key)

    def node(self, value, depth, failed):
        """Grow something that turns a value into a number."""
        kind = self.random.random()
        if depth == 0 or kind < 0.3:
            return self.task(value, failed=failed)
        if kind < 0.5:
            return self.chain(value, depth, failed)
        return self.chord(value, depth, failed)

    def task(self, value, *, failed=frozenset(), first=False):
        """Grow one task."""
        key, number, kind = self.new_key(), self.random.randrange(10), self.random.random()
        self.runs(key, failed)
        given = (value,) if first else ()
        total = (flat(value) if isinstance(value, list) else value) if not failed else 0
        if kind < self.failures:
            return broken.s(*given, key), 0, failed or {key}
        if kind < 0.12:
            return stubborn.s(*given, key, number), total + number, failed
        if kind < 0.2 and self.replacements and not isinstance(value, list):
            return self.replaced(given, key, total, failed)
        return step.s(*given, key, number), total + number, failed

    def replaced(self, given, key, total, failed):
        """Grow a task that lets others run instead."""
        numbers = [self.random.randrange(10) for _ in range(self.random.randrange(1, 5))]
        inner = [f"{key}/{i}" for i in range(len(numbers))]
        if len(numbers) % 2:
            result = total + sum(numbers)
        else:
            result = flat([total + n for n in numbers])
            inner.append(f"{key}/body")
        for each in inner:
            self.runs(each, failed)
        return stand_in.s(*given, key, numbers), result, failed

    def chain(self, value, depth, failed):
        """Grow a chain."""
        steps = []
        for _ in range(self.random.randrange(2, 4)):
            sig, value, failed = self.node(value, max(0, depth - 1), failed)
            steps.append(sig)
        return chain(*steps), value, failed

    def chord(self, value, depth, failed):
        """Grow a chord."""
        header, values, after = self.parallel(value, depth, failed)
        key = self.new_key()
        self.runs(key, after)
        self.tree_.bodies.add(key)
        return chord(header, gather.s(key)), 0 if after else flat(values), after

    def parallel(self, value, depth, failed, least=1):
        """Grow a group: its value is a list."""
        parts, values, after = [], [], set(failed)
        for _ in range(self.random.randrange(least, 6)):
            sig, one, broke = self.node(value, max(0, depth - 1), failed)
            parts.append(sig)
            values.append(one)
            after |= set(broke)
        if depth and self.random.random() < 0.2:
            numbers = [self.random.randrange(10) for _ in range(3)]
            mapped = increment.map(numbers)
            mapped.set_immutable(True)
            parts.append(mapped)
            values.append([number + 1 for number in numbers])
        if depth and self.random.random() < 0.1:
            inner, more, broke = self.parallel(value, 0, failed, least=2)
            parts.append(inner)
            values.append(more)
            after |= set(broke)
        return group(parts), values, after
