"""Real parts of the local stack for one test run: each started at most once, all ended by pid."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

from local import processes
from local.azurite import servers
from local.azurite.accounts import AzuriteAccounts
from local.postgres import PostgresServers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from local.azurite.accounts import Account
    from local.home import Home
    from local.postgres import Server

PATIENCE_S = 60.0


class Parts:
    """Starts parts in one home and remembers how each is stopped."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._running: dict[str, processes.Identity] = {}
        self._servers: set[str] = set()

    def start(self, name: str, *, health: str) -> None:
        """Start `python -m local.<name>` unless it runs; return when `health` answers."""
        if name in self._running:
            return
        log = self.home.path("logs", f"{name}.log")
        self._running[name] = processes.spawn(
            [sys.executable, "-m", f"local.{name}"],
            home=self.home,
            name=name,
            log=log,
            env={"KPAX_HOME": str(self.home.root)},
            die_with_parent=True,
        )
        self._await(name, lambda: _answers(health), log)

    def kill(self, name: str) -> None:
        """Kill a part at once (SIGKILL); `start` brings it back."""
        processes.end(self._running.pop(name), sig=signal.SIGKILL, grace_s=5.0)

    def start_azurite(self) -> None:
        """Both servers of Azurite."""
        for name in servers.SERVICES:
            if name not in self._running:
                self._running[name] = servers.start(self.home, name)
        for name in servers.SERVICES:
            port = self.home.port(name)
            log = self.home.path("logs", f"{name}.log")
            self._await(name, lambda port=port: _listens(port), log)

    def account(self, name: str) -> Account:
        """A storage account that answers."""
        self.start_azurite()
        return asyncio.run(AzuriteAccounts(self.home).ensure(name))

    def postgres(self, name: str, *, user: str, password: str) -> Server:
        """A database server that accepts connections."""
        self._servers.add(name)
        return asyncio.run(
            PostgresServers(self.home).ensure(name, admin_user=user, admin_password=password)
        )

    def stop_all(self) -> None:
        """End everything that was started here."""
        for name in self._servers:
            asyncio.run(PostgresServers(self.home).stop(name))
        for name, identity in self._running.items():
            if name in servers.SERVICES:
                servers.stop(self.home, name, identity)
            else:
                processes.end(identity)

    def _await(self, name: str, ready: Callable[[], bool], log: Path) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if not processes.alive(self._running[name]) or time.monotonic() > deadline:
                raise AssertionError(f"{name} did not start:\n{log.read_text()[-2000:]}")
            time.sleep(0.02)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 — a loopback address
            return answer.status < 300
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
