"""``make demo``: what a newcomer sees first."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(400)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Demo:
    """A running demonstration, in a process group and with a database of its own."""

    def __init__(self, folder, *arguments, port=None):
        self.lines = []
        self.seen = threading.Condition()
        environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        environment |= {"DATABASE": f"sqlite:///{folder}/demo.sqlite3", "OUTPUT_DIR": str(folder), "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "testproject/demo.py", "--port", str(port or free_port()), *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            with self.seen:
                self.lines.append(line.rstrip())
                self.seen.notify_all()

    @property
    def output(self):
        return "\n".join(self.lines)

    def wait_for(self, text, timeout=240):
        with self.seen:
            assert self.seen.wait_for(lambda: text in self.output, timeout), f"no {text!r} in:\n{self.output}"

    def wait(self, timeout=240):
        status = self.process.wait(timeout)
        self.reader.join(5)
        return status

    def survivors(self):
        """Who is left of the process group after a moment to end in."""
        group = [p for p in psutil.process_iter(["status"]) if _group(p.pid) == self.process.pid and p.info["status"] != "zombie"]
        return psutil.wait_procs(group, timeout=20)[1]


def _group(pid):
    try:
        return os.getpgid(pid)
    except OSError:
        return None


@pytest.fixture
def start(tmp_path):
    running = []

    def start(*arguments, port=None):
        running.append(Demo(tmp_path, *arguments, port=port))
        return running[-1]

    yield start
    for demo in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(demo.process.pid, signal.SIGKILL)
        demo.process.wait()
        demo.reader.join(5)
        demo.process.stdout.close()


def test_it_ends_by_itself_when_the_work_is_done(start, tmp_path):
    """With --exit it ends with status 0, has written the report, told where everything is, and leaves no process."""
    demo = start("--exit")
    assert demo.wait() == 0, demo.output
    assert "<svg" in (tmp_path / "report.html").read_text()
    assert "24 access logs" in demo.output
    assert "/admin/    login demo, password demo" in demo.output
    assert "a periodic task has run" in demo.output
    assert "\x1b[" not in demo.output
    assert demo.survivors() == []


def test_ctrl_c_stops_everything(start):
    """The terminal's SIGINT reaches the whole group: all processes end, none is killed, and the status is 0."""
    demo = start()
    demo.wait_for("Ctrl-C stops everything")
    os.killpg(demo.process.pid, signal.SIGINT)
    assert demo.wait(60) == 0, demo.output
    assert demo.survivors() == []
    assert "had to be killed" not in demo.output


def test_a_signal_to_the_first_process_alone_stops_everything(start):
    """A service manager's SIGTERM reaches one process only, which ends the others."""
    demo = start()
    demo.wait_for("Ctrl-C stops everything")
    demo.process.send_signal(signal.SIGTERM)
    assert demo.wait(60) == 0, demo.output
    assert demo.survivors() == []


def test_a_taken_port_is_named(start):
    """A taken port ends the demonstration at once, with the port and the way to choose another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        demo = start("--exit", port=port)
        assert demo.wait(60) == 1
    assert f"port {port} can't be had" in demo.output
    assert f'ARGS="--port {port + 1}"' in demo.output


def test_a_process_that_dies_is_named(start):
    """When the worker ends, so does the demonstration: with status 1, and saying which process it was."""
    demo = start()
    demo.wait_for("Ctrl-C stops everything")
    (worker,) = [p for p in psutil.Process(demo.process.pid).children() if "runworker" in p.cmdline()]
    worker.kill()
    assert demo.wait(60) == 1
    assert "worker has ended with status -9" in demo.output
    assert demo.survivors() == []
