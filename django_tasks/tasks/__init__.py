"""Tasks: declaring them and calling them."""

from django_tasks.tasks.declaring import register, shared_task, task_from_function, task_name
from django_tasks.tasks.definition import Task

__all__ = ["Task", "register", "shared_task", "task_from_function", "task_name"]
