"""`kpax up --watch` on the real stack, with an app of the test's own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local import processes
from local.home import PROJECT, Home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120)]

_APP = """
import azure.functions as func
import time
app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route("say")
def say(req: func.HttpRequest) -> str:
    if "after" in req.params:
        open(".entered", "w").close()
        time.sleep(float(req.params["after"]))
    return "{word}"
"""


class Watched:
    """A stack that watches a small app."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.app, self.home = folder / "app", home
        self.app.mkdir()
        (self.app / "host.json").write_text(
            '{"version": "2.0", "extensions": {"http": {"routePrefix": ""}}}'
        )
        (self.app / ".funcignore").write_text(".*\n__pycache__/\n")
        self.save("first")
        self._said = folder / "said"
        with self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "kpax", "up", "--watch"],
                cwd=PROJECT,
                env={**os.environ, "KPAX_HOME": str(home), "KPAX_APP_DIR": str(self.app)},
                stdin=subprocess.DEVNULL,
                stderr=said,
            )

    def save(self, word: str) -> None:
        self.save_text(_APP.replace("{word}", word))

    def save_text(self, text: str) -> None:
        (self.app / "function_app.py").write_text(text)

    def said(self) -> str:
        return self._said.read_text(encoding="utf-8")

    def word(self, query: str = "") -> str:
        """What the app says now; empty while nobody answers."""
        port = Home.open(self.home).port("functions_host")
        with suppress(OSError, urllib.error.URLError):
            url = f"http://127.0.0.1:{port}/say{query}"
            with urllib.request.urlopen(url, timeout=20) as answer:
                return answer.read().decode()
        return ""

    def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not holds():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    home = Path(tempfile.mkdtemp(prefix="kpax-test-"))
    made = Watched(tmp_path, home)
    yield made
    if made.process.poll() is None:
        made.process.send_signal(signal.SIGINT)
        made.process.wait(60)
    for process in processes.marked(Home.open(home)):
        processes.end(process.identity, grace_s=0)
    shutil.rmtree(home, ignore_errors=True)


def test_a_saved_file_is_served_a_broken_one_is_named_and_the_next_save_heals_it(
    watched: Watched,
) -> None:
    watched.until(lambda: "Ctrl-C stops" in watched.said())
    assert watched.word() == "first"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(watched.word, "?after=2")
        watched.until((watched.app / ".entered").exists)
        watched.save("second")
        watched.until(lambda: watched.word() == "second")
        assert running.result() == "first"
    assert "function_app.py changed, the Functions host starts anew." in watched.said()
    watched.save_text("import nothing_of_this_name\n")
    watched.until(lambda: "The next save tries again." in watched.said())
    assert "No module named 'nothing_of_this_name' (function_app.py, line 1)" in watched.said()
    assert watched.word() == ""
    watched.save("third")
    watched.until(lambda: watched.word() == "third")
    # Told once, by the restart itself.
    assert watched.said().count("functions_host did not start") == 1
    assert "has ended with" not in watched.said().split("The next save tries again.")[1]
    watched.process.send_signal(signal.SIGINT)
    assert watched.process.wait(60) == 0
    assert processes.marked(Home.open(watched.home)) == []
