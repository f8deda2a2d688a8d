"""``app``: the one task app of a Django project."""

from django_tasks import result
from django_tasks.application.commanding import COMMANDS_TO_COME, Control
from django_tasks.application.configuration import Conf
from django_tasks.application.marking import follow
from django_tasks.application.moments import Moment
from django_tasks.application.project import App
from django_tasks.canvas import Signature
from django_tasks.result_backends.celerysnames import OneTask
from django_tasks.tasks import Task

#: The one app of the project.
app = App()
# Tasks offer it as ``self.app``, results as ``result.app``, signatures as ``sig.app``; they lie below this room and can't import it.
Task.app = app
result.ResultBase.app = app
Signature.app = app
OneTask.followed = staticmethod(follow)


def finalize() -> None:
    """Send the app's start-up signals, once; called when Django's apps are ready."""
    app.finalize()


__all__ = ["COMMANDS_TO_COME", "App", "Conf", "Control", "Moment", "app", "finalize"]
