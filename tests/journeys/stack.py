"""A running stack for journeys: started by the command, asked by the command, stopped by it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.home import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def body(self) -> Any:
        return json.loads(self.out)


class Stack:
    """One home and the commands on it."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="kpax-journey-"))

    def write_settings(self, settings: dict[str, str]) -> None:
        """Settings that stand over those of the stack, from the next start on."""
        (self.home / "app_settings.json").write_text(json.dumps(settings))

    def run(self, *arguments: str, timeout_s: float = 150) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "kpax", *arguments],
            cwd=PROJECT,
            env={**os.environ, "KPAX_HOME": str(self.home)},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str) -> Any:
        """The body of a command that must succeed."""
        ran = self.run(*arguments, "--json")
        assert ran.code == 0, f"{arguments}: {ran.code} {ran.out} {ran.err}"
        return ran.body

    def up(self) -> None:
        ran = self.run("up", "--detach")
        assert ran.code == 0, ran.err

    def kill(self, part: str) -> None:
        """Kill -9 of the part itself."""
        os.kill(self.status()[part]["pid"], signal.SIGKILL)

    def status(self) -> dict[str, Any]:
        return self.run("status", "--json").body["services"]

    def order(self, name: str, *, country: str = "DE", plan: str = "starter") -> dict[str, Any]:
        return self.json(
            "order", "create", "--name", name, "--country", country, "--plan", plan,
            "--customer-ref", f"c-{name}",
        )  # fmt: skip

    def pay(self, order: dict[str, Any], *more: str) -> None:
        self.json("billing", "send", "activated", "--order", order["order_id"], *more)

    def space(self, name: str) -> dict[str, Any]:
        return self.json("space", "show", name)

    def until(self, held: Callable[[], bool], *, within_s: float, told: str) -> None:
        """Wait for a condition; the deadline is generous, since the machine is shared."""
        deadline = time.monotonic() + within_s
        while not held():
            assert time.monotonic() < deadline, told
            time.sleep(0.1)

    def until_active(self, *names: str, within_s: float = 120) -> None:
        for name in names:
            self.until(
                lambda name=name: self.space(name)["status"] == "active",
                within_s=within_s,
                told=f"{name} did not become active in {within_s} s",
            )

    def down(self) -> None:
        ran = self.run("down")
        assert ran.code == 0, ran.err
