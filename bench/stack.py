"""A whole local stack on a home that is thrown away: started and stopped by the command itself.

Whatever ends the measurement (a failure, Ctrl-C, SIGTERM), everything is stopped and deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local import processes
from local.home import PROJECT, Home
from local.postgres import PostgresServers

if TYPE_CHECKING:
    from collections.abc import Iterator


class Stack:
    """One home and the command on it; nothing runs until `up`."""

    def __init__(self, root: Path) -> None:
        self.home = Home.open(root)

    def up(self) -> float:
        """Start it; the seconds until the command says that all is healthy."""
        began = time.monotonic()
        self.run("up", "--detach")
        return time.monotonic() - began

    def down(self) -> None:
        """Stop it with all databases and spaces; the data stays."""
        self.run("down")

    def run(self, *arguments: str) -> str:
        """One `kpax` command that must succeed; its output. Ctrl-C does not reach it."""
        done = subprocess.run(
            [sys.executable, "-m", "kpax", *arguments],
            cwd=PROJECT,
            env={**os.environ, "KPAX_HOME": str(self.home.root)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
            start_new_session=True,
        )
        if done.returncode:
            raise RuntimeError(f"kpax {' '.join(arguments)}: {done.stderr[-1000:]}")
        return done.stdout

    def memory(self) -> dict[str, float]:
        """PSS in MiB of everything that runs for this home, by the name it was started under."""
        found: dict[int, str] = {
            one.identity.pid: one.name for one in processes.marked(self.home)
        }
        for server in PostgresServers(self.home).all():
            folder = self.home.path("postgres", server.name, "data").resolve()
            # Sessions of a server overwrite their environment: found by where they live.
            found |= {one.pid: f"postgres-{server.name}" for one in processes.living_in(folder)}
        sizes: dict[str, float] = {}
        for pid, name in found.items():
            sizes[name] = sizes.get(name, 0) + processes.pss_mib(pid)
        return sizes


@contextlib.contextmanager
def thrown_away(settings: dict[str, str] | None = None) -> Iterator[Stack]:
    """A home that is gone afterwards, its stack not started; `settings` stand over the app's."""
    root = Path(tempfile.mkdtemp(prefix="kpax-bench-"))
    stack = Stack(root)
    if settings:
        write_settings(stack, settings)
    try:
        yield stack
    finally:
        # A second Ctrl-C must not leave processes behind.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            stack.down()
        finally:
            shutil.rmtree(root, ignore_errors=True)
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def running() -> Iterator[Stack]:
    """A healthy stack, gone afterwards."""
    with thrown_away() as stack:
        stack.up()
        yield stack


def write_settings(stack: Stack, settings: dict[str, Any]) -> None:
    """Settings of the application that stand over the stack's, from its next start on."""
    stack.home.path("app_settings.json").write_text(json.dumps(settings), encoding="utf-8")
