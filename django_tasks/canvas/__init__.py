"""Workflows: signatures, and what combines them."""

from django_tasks.canvas import bodyserializers as _bodyserializers  # noqa: F401  tells the stores by what a body is kept
from django_tasks.canvas.chains import chain
from django_tasks.canvas.chords import chord
from django_tasks.canvas.groups import group
from django_tasks.canvas.maps import chunks, xmap, xstarmap
from django_tasks.canvas.signatures import Signature, maybe_signature, maybe_subtask, signature, subtask
from django_tasks.canvas.stamping import StampingVisitor

__all__ = [
    "Signature",
    "StampingVisitor",
    "chain",
    "chord",
    "chunks",
    "group",
    "maybe_signature",
    "maybe_subtask",
    "signature",
    "subtask",
    "xmap",
    "xstarmap",
]
