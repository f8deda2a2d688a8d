"""The admin in a real browser: every page loads whole, in light and dark, and the buttons do what they say."""

import os
from pathlib import Path

import pytest
from django.urls import reverse

from django_tasks import clock
from django_tasks.models import BeatRun, DeadLetter, Message, Queue, Revocation, TaskResult
from tests.browser.rows import fill

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

MODELS = ("taskresult", "message", "deadletter", "queue", "worker")
#: Where to leave pictures for people; none are taken without.
PICTURES = os.environ.get("BROWSER_PICTURES")


@pytest.fixture
def site(browser, live_server):
    """The browser, and rows to look at."""
    fill()

    def go(model, view="changelist", *args):
        browser.get(live_server.url + reverse(f"admin:django_tasks_{model}_{view}", args=args))

    browser.go = go
    return browser


def picture(browser, name):
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(Path(PICTURES) / f"{name}.png"))


def whole(browser):
    """No script failed, nothing was missing, and nothing is wider than the window."""
    severe = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE" and "favicon" not in entry["message"]]
    assert severe == []
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def theme(browser, name):
    browser.execute_script("localStorage.setItem('theme', arguments[0])", name)


def follow(browser, selector):
    """Click what leads to another page, and wait until that is there."""
    from selenium.common.exceptions import WebDriverException
    from selenium.webdriver.support.wait import WebDriverWait

    # A mark that the next page doesn't have: asking for an element of the old one while pages change confuses the driver.
    browser.execute_script("window.left = true")
    browser.find_element("css selector", selector).click()
    wait = WebDriverWait(browser, 20, poll_frequency=0.05, ignored_exceptions=[WebDriverException])
    wait.until(lambda page: page.execute_script("return window.left === undefined && document.readyState === 'complete'"))


def press(browser, name):
    follow(browser, f".dt-tool button[name={name}]")


def told(browser):
    return browser.find_element("css selector", ".messagelist .success").text


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("model", MODELS)
def test_lists_and_pages_load_whole(site, model, colours):
    """List and page of each kind of row load without an error on the console, and readable: text and ground differ."""
    from django.apps import apps

    site.go(model)
    theme(site, colours)
    site.go(model)
    whole(site)
    assert site.find_elements("css selector", "#result_list tbody tr")
    for badge in site.find_elements("css selector", ".dt-badge"):
        assert contrast(badge.value_of_css_property("color"), badge.value_of_css_property("background-color")) >= 3
    picture(site, f"{model}-list-{colours}")
    row = apps.get_model("django_tasks", model).objects.order_by("pk").last()
    site.go(model, "change", row.pk)
    whole(site)
    picture(site, f"{model}-page-{colours}")


def contrast(one, other):
    """WCAG's ratio of two CSS colours: 1 for the same, 21 for black and white."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour):
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_failure_is_looked_at_and_run_again(site):
    """From the page of a failure: the traceback is there, and the button leads over its arguments to a new call."""
    failure = TaskResult.objects.get(status="FAILURE")
    site.go("taskresult", "change", failure.pk)
    picture(site, "failure-page")
    assert "PaymentRefused" in site.find_element("css selector", ".field-traceback_text pre").text
    before = Message.objects.count()
    press(site, "run_again")
    picture(site, "run-again")
    arguments = site.find_element("name", "args")
    assert arguments.get_attribute("value") == "[\n  20417\n]"
    arguments.clear()
    arguments.send_keys("[20417")
    follow(site, ".submit-row input")
    picture(site, "run-again-error")
    assert "here:" in site.find_element("css selector", ".dt-error").text
    arguments = site.find_element("name", "args")
    arguments.send_keys("]")
    follow(site, ".submit-row input")
    assert "was sent again as" in told(site)
    assert Message.objects.count() == before + 1
    whole(site)


def test_a_running_task_is_stopped(site):
    """The button «Stop» revokes a running task and says so."""
    running = TaskResult.objects.get(status="STARTED")
    site.go("taskresult", "change", running.pk)
    press(site, "terminate")
    assert "1 task is being stopped" in told(site)
    assert Revocation.objects.get().terminate


def test_a_workflow_is_followed_until_it_is_done(browser, live_server):
    """The picture changes by itself, keeps the focus of a link and the place to which it was scrolled, and is still at the end."""
    from selenium.webdriver.support.wait import WebDriverWait

    rows = [TaskResult.objects.create(task_id=f"t{n}", task_name="shop.step", root_id="t0", parent_id=f"t{n - 1}" if n else None,
                                      status="STARTED", date_created=clock.now()) for n in range(12)]  # fmt: skip
    address = reverse("admin:django_tasks_taskresult_workflow", args=[rows[0].pk])
    browser.get(live_server.url + address)
    assert browser.execute_script("return document.querySelectorAll('.dt-node-busy').length") == 12
    browser.execute_script("window.stays = true; document.querySelector('.dt-canvas').scrollLeft = 700")
    browser.execute_script("document.querySelectorAll('.dt-workflow a')[3].focus({preventScroll: true})")
    TaskResult.objects.exclude(task_id="t11").update(status="SUCCESS")
    done = "return document.querySelectorAll('.dt-node-good').length"
    WebDriverWait(browser, 30, poll_frequency=0.1).until(lambda page: page.execute_script(done) == 11)
    assert browser.execute_script("return [window.stays, document.querySelector('.dt-canvas').scrollLeft]") == [True, 700]
    assert browser.execute_script("return document.activeElement.getAttribute('aria-label')") == "shop.step: SUCCESS"
    TaskResult.objects.update(status="SUCCESS")
    WebDriverWait(browser, 30, poll_frequency=0.1).until(lambda page: page.execute_script(done) == 12)
    assert browser.execute_script("return document.querySelectorAll('[data-live]').length") == 0
    picture(browser, "workflow")
    whole(browser)


def test_a_progress_bar_moves_and_gives_way_to_the_result(browser, live_server):
    """The bar follows the task; when it is done the page is read again as a whole."""
    from selenium.webdriver.support.wait import WebDriverWait

    row = TaskResult.objects.create(task_id="p", task_name="shop.step", status="PROGRESS", result=progressed(1), date_created=clock.now())
    browser.get(live_server.url + reverse("admin:django_tasks_taskresult_change", args=[row.pk]))
    value = "const bar = document.querySelector('.dt-progress progress'); return bar && bar.value"
    assert browser.execute_script(value) == 0.25
    TaskResult.objects.update(result=progressed(3))
    WebDriverWait(browser, 30, poll_frequency=0.1).until(lambda page: page.execute_script(value) == 0.75)
    TaskResult.objects.update(status="SUCCESS", result="1234")
    WebDriverWait(browser, 30, poll_frequency=0.1).until(lambda page: page.execute_script(value) is None and "1234" in page.page_source)
    whole(browser)


def progressed(done):
    return f'{{"done":{done},"total":4,"message":""}}'


def test_a_dead_letter_is_replayed_from_the_list(site):
    """Ticking a letter and choosing «Replay» publishes it and takes it off the list."""
    site.go("deadletter")
    site.find_elements("css selector", "input.action-select")[0].click()
    site.find_element("css selector", "select[name=action] option[value=replay]").click()
    follow(site, "button[name=index]")
    assert "1 message was sent again." in told(site)
    assert DeadLetter.objects.count() == 1


def test_a_queue_is_purged_after_a_question(site):
    """«Purge…» asks first; «take me back» changes nothing; the second time it empties the queue."""
    site.go("queue")
    queue = Queue.objects.get(name="mail")
    for answer in ("a.cancel-link", "input[type=submit]"):
        site.go("queue", "change", queue.pk)
        press(site, "purge")
        assert "mail: 5" in site.find_element("id", "content").text
        picture(site, "purge")
        follow(site, f"#content {answer}")
        if answer.startswith("a"):
            assert Message.objects.filter(queue="mail").count() == 5
    assert not Message.objects.filter(queue="mail").exists()


def test_a_queue_is_paused_with_a_reason(site):
    """«Pause…» asks for a reason, which the list then shows."""
    site.go("queue")
    site.go("queue", "change", Queue.objects.get(name="mail").pk)
    press(site, "pause")
    site.find_element("id", "id_reason").send_keys("the mail host is down")
    picture(site, "pause")
    follow(site, "#content input[type=submit]")
    site.go("queue")
    assert "the mail host is down" in site.find_element("id", "result_list").text


def test_narrow_windows(site):
    """On a telephone's window nothing is wider than the window."""
    size = site.get_window_size()
    try:
        site.set_window_size(500, 900)
        failure = TaskResult.objects.get(status="FAILURE")
        site.go("taskresult", "change", failure.pk)
        picture(site, "narrow-page")
        whole(site)
        site.go("taskresult")
        picture(site, "narrow-list")
    finally:
        site.set_window_size(size["width"], size["height"])


#: The cell of each list that says how a row is doing.
STATES = {"taskresult": "state", "message": "place", "deadletter": "why", "queue": "state", "worker": "state", "beatrun": "due"}


@pytest.mark.parametrize(("width", "height"), [(1440, 900), (390, 844)])
def test_lists_fit_their_window_with_the_state_in_sight(site, width, height):
    """On a laptop and on a telephone no list is wider than its place, and each row's state can be seen without scrolling sideways."""
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    BeatRun.objects.create(entry="nightly report of all shops", due_at=clock.now(), task_id="x" * 36, task="shop.tasks.monthly_report")
    interval = IntervalSchedule.objects.create(every=10, period="minutes")
    PeriodicTask.objects.create(name="nightly report of all shops", task="shop.tasks.monthly_report", interval=interval)
    # A window has a least width of its own; what a telephone shows is asked of the page.
    site.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False})
    try:
        for model, field in STATES.items():
            site.go(model)
            picture(site, f"fit-{width}-{model}")
            measured = site.execute_script(MEASURE, f"field-{field}")
            assert measured["over"] <= 0, (model, measured)
            assert 0 < measured["right"] <= width, (model, measured)
        site.get(site.current_url.partition("/admin/")[0] + "/admin/django_celery_beat/periodictask/")
        picture(site, f"fit-{width}-periodictask")
        measured = site.execute_script(MEASURE, "field-next_run")
        assert measured["over"] <= 0, measured
        assert 0 < measured["right"] <= width, measured
    finally:
        site.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


#: How far a list's table is wider than its place, and where the cell of a field in the first row ends.
MEASURE = """
const place = document.querySelector('#changelist-form .results'), cell = document.querySelector(`#result_list td.${arguments[0]}`);
return {over: place.scrollWidth - place.clientWidth, right: cell ? cell.getBoundingClientRect().right : -1,
        shows: [...document.querySelectorAll('#result_list tbody tr:first-child > *')].map(c => c.className + ' ' + c.offsetWidth)};
"""
