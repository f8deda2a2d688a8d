"""A browser for the tests of this folder: Debian's chromium and chromedriver, or those that CHROMIUM and CHROMEDRIVER name."""

import os
import shutil
from collections.abc import Iterator
from functools import cache

import pytest

from tests.absent import leave_out

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")


@cache
def missing() -> str | None:
    """Say why there is no browser here; None if there is."""
    try:
        import selenium  # noqa: F401
    except ImportError:
        return "selenium is not installed"
    if not CHROMIUM:
        return "no chromium on the path; set CHROMIUM to use another"
    return None if CHROMEDRIVER else "no chromedriver on the path; set CHROMEDRIVER to use another"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip by name where there is no browser; where CI is set, that is a failure."""
    for item in items:
        if item.get_closest_marker("browser") is not None and (reason := missing()) is not None:
            leave_out(item, reason)


@pytest.fixture(scope="session")
def chromium():
    """One headless browser for all tests."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # In a container: no sandbox to be had, and /dev/shm is small.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--window-size=1400,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(executable_path=CHROMEDRIVER))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture
def browser(chromium, live_server, client, admin_user) -> Iterator:
    """The browser, logged in as the superuser, with no messages on its console."""
    client.force_login(admin_user)
    chromium.get(f"{live_server.url}/admin/login/")
    chromium.add_cookie({"name": "sessionid", "value": client.cookies["sessionid"].value, "path": "/"})
    chromium.get_log("browser")
    yield chromium
    chromium.delete_all_cookies()
