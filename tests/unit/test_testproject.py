"""What the test project computes, without its tasks."""

import importlib.util
from pathlib import Path

import pytest

SHOP = Path(__file__).resolve().parents[2] / "testproject" / "shop"
DATA = SHOP.parent / "data"
LINE = '203.0.113.7 - - [19/Nov/2026:14:05:10 +0000] "GET {path} HTTP/1.1" {status} 500 "-" "a browser" {seconds}\n'


def load(name, folder=SHOP):
    spec = importlib.util.spec_from_file_location(f"testproject_{name}", folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def logs(monkeypatch):
    module = load("logs")
    monkeypatch.setattr(module, "RESAMPLES", 50)
    return module


def test_a_log_is_counted_and_what_is_no_request_is_told_apart(logs, tmp_path):
    """Requests, answers, pages without their queries, minutes and strange lines come out as they went in."""
    path = tmp_path / "14.log"
    path.write_text(LINE.format(path="/a?q=1", status=200, seconds=0.1) + LINE.format(path="/a", status=504, seconds=0.3) + "garbage\n")
    found = logs.analyse(path)
    assert (found["log"], found["requests"], found["strange"], found["bytes"]) == ("14", 2, 1, 1000)
    assert found["answers"] == {"200": 1, "504": 1}
    assert found["pages"] == {"/a": [2, pytest.approx(0.4), 0.3]}
    assert found["minutes"][5] == 2
    assert found["visitors"] == ["203.0.113.7"]


def test_an_empty_log_is_no_error(logs, tmp_path):
    """A log without a line has no times to draw from."""
    path = tmp_path / "00.log"
    path.write_text("")
    assert logs.analyse(path)["p95_between"] == (0.0, 0.0)


def test_the_report_shows_the_day_and_escapes_what_strangers_wrote(logs, tmp_path):
    """A page's name that is markup stays text; the slow hour is named."""
    for hour, seconds in (("13", 0.1), ("14", 2.0)):
        (tmp_path / f"{hour}.log").write_text(LINE.format(path="/<script>", status=500, seconds=seconds) * 20)
    day = logs.merge(logs.analyse(tmp_path / f"{hour}.log") for hour in ("14", "13"))
    report = load("report")
    page = report.write(day, tmp_path / "output").read_text(encoding="utf-8")
    assert "/&lt;script&gt;" in page
    assert "<script" not in page
    assert report.summary(day)["slowest_hour"].startswith("14:00")
    assert report.summary(day)["errors"] == 40


def test_the_committed_logs_are_those_that_the_generator_writes():
    """The day in the logs is the generator's, whatever machine it runs on."""
    generate = load("generate", DATA)
    for number in (3, 14):
        assert (DATA / "access" / f"{number:02}.log").read_text(encoding="utf-8") == "\n".join(generate.hour(number)) + "\n"
