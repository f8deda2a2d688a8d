"""Small tasks, and what those that note their calls were given."""

from django_tasks.tasks import shared_task

calls: list = []


@shared_task(name="flow.add")
def add(x, y):
    """Add."""
    return x + y


@shared_task(name="flow.double")
def double(x):
    """Double."""
    return 2 * x


@shared_task(name="flow.total")
def total(values):
    """Add up, however nested."""
    return sum(total(v) if isinstance(v, list) else v for v in values)


@shared_task(name="flow.same")
def same(value=None):
    """Return the argument."""
    return value


@shared_task(name="flow.fail")
def fail(*args):
    """Fail."""
    raise ValueError("bad", 3)


@shared_task(name="flow.note")
def note(*args):
    """Remember the call."""
    calls.append(args)
    return args


@shared_task(name="flow.errback")
def errback(request, exc, traceback):
    """Remember a failure, in the process where it happened."""
    calls.append((request.id, exc, traceback))


def ident(value):
    """Return a signature that returns this value."""
    return same.si(value)
