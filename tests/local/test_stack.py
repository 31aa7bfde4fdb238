"""The whole local stack, really started: what `kpax` promises about it, kill -9 included."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from azure.servicebus import ServiceBusClient, ServiceBusMessage
from azure.storage.blob import BlobServiceClient

from local import processes
from local.home import PROJECT, Home
from local.stack import PARTS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]


def kpax(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kpax", *arguments],
        cwd=PROJECT,
        env={**os.environ, "KPAX_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def services(home: Path) -> dict[str, Any]:
    return json.loads(kpax(home, "status", "--json").stdout)["services"]


def kill(home: Path, name: str) -> None:
    identity = processes.identify(services(home)[name]["pid"])
    assert identity
    family = processes.session(identity)
    os.kill(identity.pid, signal.SIGKILL)
    assert processes.wait_gone(family, timeout_s=10), "children outlived their part"


@pytest.fixture
def homes() -> Iterator[list[Path]]:
    """Names of homes to be; each is a 0700 folder of mktemp and is swept clean afterwards."""
    made = [Path(tempfile.mkdtemp(prefix="kpax-test-")) for _ in range(2)]
    yield made
    for root in made:
        if kpax(root, "down").returncode != 0:
            for left in processes.marked(Home(root)):
                processes.end(left.identity)
        assert processes.marked(Home(root)) == []
        shutil.rmtree(root, ignore_errors=True)


def test_a_stack_lives_from_up_to_down(homes: list[Path]) -> None:
    home = homes[0]
    done = kpax(home, "up", "--detach")  # would hang here if a part held our pipes
    assert done.returncode == 0, done.stderr
    told = kpax(home, "status", "--json")
    assert told.returncode == 0
    body = json.loads(told.stdout)
    assert body["healthy"] is True
    assert set(body["services"]) == {part.name for part in PARTS}
    assert all(one["healthy"] and one["pss_mib"] > 1 for one in body["services"].values())

    found = json.loads(kpax(home, "env", "--json").stdout)
    with BlobServiceClient.from_connection_string(found["storage_connection"]) as blobs:
        blobs.create_container("anything")
    with (
        ServiceBusClient.from_connection_string(found["service_bus_connection"]) as bus,
        bus.get_queue_sender("space-events") as sender,
        bus.get_queue_receiver("space-events") as receiver,
    ):
        sender.send_messages(ServiceBusMessage(b"hello"))
        (message,) = receiver.receive_messages(max_message_count=1, max_wait_time=10)
        receiver.complete_message(message)

    # Killed one after another: named, the rest untouched, and only they are started again.
    for name in ("functions_host", "service_bus", "resource_manager"):
        before = services(home)
        kill(home, name)
        told = kpax(home, "status")
        assert told.returncode == 1
        assert f"{name} has ended" in told.stderr
        again = kpax(home, "up", "--detach")
        assert again.returncode == 0, again.stderr
        after = services(home)
        assert {part for part in after if after[part]["pid"] != before[part]["pid"]} == {name}
    with BlobServiceClient.from_connection_string(found["storage_connection"]) as blobs:
        assert "anything" in [container.name for container in blobs.list_containers()]

    assert kpax(home, "local", "reset", "--yes").returncode == 1  # not while it runs
    assert kpax(home, "down").returncode == 0
    assert kpax(home, "status").returncode == 6
    assert processes.marked(Home(home)) == []


def test_two_homes_run_side_by_side_and_one_may_be_attached(homes: list[Path]) -> None:
    detached, attached = homes
    with subprocess.Popen(
        [sys.executable, "-m", "kpax", "up"],
        cwd=PROJECT,
        env={**os.environ, "KPAX_HOME": str(attached)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        lines = Lines(process.stderr)
        assert kpax(detached, "up", "--detach").returncode == 0
        lines.wait_for("Ctrl-C stops everything")
        one, two = services(detached), services(attached)
        assert not {s["pid"] for s in one.values()} & {s["pid"] for s in two.values()}
        assert not {s["address"] for s in one.values()} & {s["address"] for s in two.values()}

        kill(attached, "front_door")
        lines.wait_for("front_door (pid ")  # named, and not restarted
        assert services(attached)["front_door"]["pid"] is None

        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGINT)  # impatience changes nothing
        lines.wait_for("Stopped. The data stays.")
        assert process.wait(30) == 0
    assert kpax(attached, "status").returncode == 6
    assert kpax(detached, "status").returncode == 0

    # An unclean end of Azurite is told at the next start, with the way out.
    kill(detached, "azurite_table")
    again = kpax(detached, "up", "--detach")
    assert again.returncode == 0, again.stderr
    assert "azurite_table was not stopped cleanly" in again.stderr
    assert "kpax local reset" in again.stderr


class Lines:
    """The lines a process writes, read as they come."""

    def __init__(self, stream: Any) -> None:
        self.text = ""
        self._new = threading.Condition()
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def wait_for(self, text: str, timeout_s: float = 60.0) -> None:
        with self._new:
            seen = self._new.wait_for(lambda: text in self.text, timeout_s)
        assert seen, f"{text!r} not in {self.text!r}"

    def _read(self, stream: Any) -> None:
        for line in stream:
            with self._new:
                self.text += line
                self._new.notify_all()
