"""Three pages: a front page that takes orders, and the report."""

from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_POST

from shop import tasks
from shop.models import JournalEntry, Order, Snapshot

TEAS = ("assam", "darjeeling", "earl-grey", "genmaicha", "hojicha", "jasmine", "oolong", "sencha")


def front(request: HttpRequest) -> HttpResponse:
    """Show the newest orders and what became of them."""
    lists = {"orders": Order.objects.all()[:10], "journal": JournalEntry.objects.all()[:10], "snapshots": Snapshot.objects.all()[:5]}
    return render(request, "shop/front.html", {"teas": TEAS, **lists})


@require_POST
def order(request: HttpRequest) -> HttpResponse:
    """Take an order: one row and its tasks, in one transaction."""
    tasks.place_order(request.POST["customer"], request.POST["tea"], express="express" in request.POST)
    return HttpResponseRedirect("/")


def report(request: HttpRequest) -> HttpResponse:
    """Show the newest report."""
    path = Path(settings.OUTPUT_DIR) / "report.html"
    if not path.exists():
        raise Http404("no report yet: the demonstration writes one, or call shop.tasks.analyse_day()")
    return HttpResponse(path.read_text(encoding="utf-8"))
