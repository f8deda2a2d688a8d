"""Workflows and what must come of them, written once and run by any engine: ours on every broker, and Celery."""
