"""Processes are found again, end when asked, and die with their parent where that was said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from local import processes
from local.errors import StackError
from local.home import PROJECT, Home
from local.processes import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SLEEP = ["sleep", "60"]
# Says that it is ready, then ignores polite requests.
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(15, 1); print('ready', flush=True); time.sleep(60)",
]


@pytest.fixture
def spawned(home: Home) -> Iterator[list[Identity]]:
    started: list[Identity] = []
    yield started
    for process in processes.marked(home):
        processes.end(process.identity, grace_s=0)


def spawn(home: Home, argv: Sequence[str], name: str = "p", **how: bool) -> Identity:
    log = home.path("logs", f"{name}.log")
    return processes.spawn(
        argv, home=home, name=name, log=log, die_with_parent=how.get("dying", False)
    )


def wait_for_text(path: Path, text: str) -> None:
    watch = threading.Event()
    for _ in range(1_000):
        if path.exists() and text in path.read_text():
            return
        watch.wait(0.01)
    raise AssertionError(f"{text!r} never appeared in {path}")


@pytest.mark.usefixtures("spawned")
def test_a_process_is_known_by_pid_and_start_time(home: Home) -> None:
    identity = spawn(home, SLEEP)
    assert processes.alive(identity)
    assert processes.identify(identity.pid) == identity
    assert not processes.alive(Identity(identity.pid, identity.started + 1))


@pytest.mark.usefixtures("spawned")
def test_a_process_that_waits_to_be_reaped_is_dead(home: Home) -> None:
    child = subprocess.Popen(SLEEP)
    identity = processes.identify(child.pid)
    assert identity is not None
    os.kill(child.pid, signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie now
    assert not processes.alive(identity)
    child.wait()


@pytest.mark.usefixtures("spawned")
def test_a_process_is_found_by_its_home_and_name(home: Home, tmp_path: Path) -> None:
    identity = spawn(home, SLEEP, "one")
    spawn(home, SLEEP, "two")
    assert processes.find(Home.open(home.root), "one") == identity
    assert processes.find(home, "three") is None
    assert processes.find(Home.open(tmp_path / "other"), "one") is None
    assert {process.name for process in processes.marked(home)} == {"one", "two"}


@pytest.mark.usefixtures("spawned")
def test_ending_takes_the_whole_session(home: Home) -> None:
    identity = spawn(home, ["sh", "-c", "sleep 60 & sleep 60 & echo ready; wait"])
    wait_for_text(home.path("logs", "p.log"), "ready")
    assert len(processes.session(identity)) == 3
    assert processes.end(identity)
    assert processes.marked(home) == []
    processes.end(identity)  # again: harmless


@pytest.mark.usefixtures("spawned")
def test_who_does_not_end_by_himself_is_killed(home: Home) -> None:
    identity = spawn(home, STUBBORN)
    wait_for_text(home.path("logs", "p.log"), "ready")
    assert not processes.end(identity, grace_s=0.1)
    assert not processes.alive(identity)
    assert processes.exit_status(identity) == -signal.SIGKILL


def test_a_stranger_with_the_same_pid_is_not_touched(home: Home) -> None:
    child = subprocess.Popen(SLEEP, start_new_session=True)
    stranger = processes.identify(child.pid)
    assert stranger is not None
    processes.end(Identity(child.pid, stranger.started - 100), grace_s=0.05)
    try:
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


@pytest.mark.usefixtures("spawned")
def test_a_child_started_from_a_thread_outlives_the_thread(home: Home) -> None:
    found: list[Identity] = []
    thread = threading.Thread(target=lambda: found.append(spawn(home, SLEEP, dying=True)))
    thread.start()
    thread.join()
    assert not processes.wait_gone(found, timeout_s=0.2)


@pytest.mark.parametrize("dying", [True, False])
@pytest.mark.usefixtures("spawned")
def test_a_child_dies_with_a_killed_parent_only_where_that_was_said(
    home: Home, *, dying: bool
) -> None:
    program = (
        "import os, sys; from local.home import Home; from local import processes\n"
        "home = Home.open(sys.argv[1])\n"
        "child = processes.spawn(['sleep', '60'], home=home, name='child',"
        f" log=home.path('child.log'), die_with_parent={dying})\n"
        "print(child.pid, child.started, flush=True); os.kill(os.getpid(), 9)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, str(home.root)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        check=False,
    )
    child = Identity(*map(int, told.stdout.split()))
    assert processes.wait_gone([child], timeout_s=5.0 if dying else 0.2) is dying


@pytest.mark.usefixtures("spawned")
def test_a_process_inherits_neither_files_nor_streams(home: Home) -> None:
    with (home.root / "held").open("w") as held:
        os.set_inheritable(held.fileno(), True)
        identity = spawn(home, ["sh", "-c", "ls -l /proc/$$/fd; echo ready; sleep 60"])
        wait_for_text(home.path("logs", "p.log"), "ready")
    log = home.path("logs", "p.log")
    listed = [line.split(" -> ")[1] for line in log.read_text().splitlines() if " -> " in line]
    assert set(listed) == {"/dev/null", str(log)}
    assert os.getsid(identity.pid) == identity.pid != os.getsid(0)


def test_a_program_that_is_not_there_is_named(home: Home) -> None:
    with pytest.raises(StackError, match="/no/such/program"):
        spawn(home, ["/no/such/program"])


def test_memory_is_told_and_a_gone_process_takes_none() -> None:
    assert processes.pss_mib(os.getpid()) > 1
    child = subprocess.Popen(["true"])
    child.wait()
    assert processes.pss_mib(child.pid) == 0
