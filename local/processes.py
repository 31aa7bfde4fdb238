"""Processes that can be found again: each in its own session, known by pid and start time.

A pid alone is no name, the kernel gives it out again; pid and start time are one. What this
module starts carries two variables (home and name) in its environment, so that a process whose
starter died before writing down its pid is found all the same. Linux only: facts are /proc's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import signal
import subprocess
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from local.errors import StackError
from local.home import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from local.home import Home

MARKER = "KPAX_HOME_MARKER"
NAME = "KPAX_PROCESS_NAME"

_PROC = Path("/proc")
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """One process and no other: its pid, and when it started (clock ticks since boot)."""

    pid: int
    started: int


@dataclass(frozen=True, slots=True)
class Marked:
    """A living process that carries a home's marker, and the name it was started under."""

    identity: Identity
    name: str


def spawn(
    argv: Sequence[str],
    *,
    home: Home,
    name: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | str | None = None,
    uid_gid: tuple[int, int] | None = None,
    die_with_parent: bool,
    death_signal: signal.Signals = signal.SIGKILL,
) -> Identity:
    """Start a program in its own session, its output appended to `log`; safe from any thread.

    It inherits no file but the log and an empty stdin. `env` is added to this process's own
    environment. With `die_with_parent` it gets `death_signal` when this process ends.
    """
    variables = {**os.environ, **(env or {}), MARKER: str(home.root), NAME: name}

    def start() -> Identity:
        with log.open("ab") as output:
            try:
                process = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=variables,
                    cwd=cwd or PROJECT,
                    start_new_session=True,
                    user=uid_gid[0] if uid_gid else None,
                    group=uid_gid[1] if uid_gid else None,
                    extra_groups=[] if uid_gid else None,
                    preexec_fn=_dying_with(os.getpid(), death_signal)  # noqa: PLW1509 — one system call, no lock taken
                    if die_with_parent
                    else None,
                )
            except OSError as error:
                raise StackError(
                    f"{name} cannot be started: {argv[0]}: {error.strerror}."
                ) from error
        status = _status(
            process.pid
        )  # there even if it ended already: nobody has reaped it yet
        identity = Identity(process.pid, status.started if status else 0)
        _children[identity] = process
        return identity

    return _spawner.call(start) if die_with_parent else start()


def identify(pid: int) -> Identity | None:
    """The living process with this pid, or None; one that only waits to be reaped is dead."""
    status = _status(pid)
    return Identity(pid, status.started) if status and status.state not in "ZX" else None


def alive(identity: Identity) -> bool:
    """Whether exactly this process still lives."""
    child = _children.get(identity)
    if child is not None and child.poll() is not None:
        return False
    return identify(identity.pid) == identity


def exit_status(identity: Identity) -> int | None:
    """How a child of this process ended (minus a signal), None while it lives or is unknown."""
    child = _children.get(identity)
    return child.poll() if child is not None else None


def end(
    identity: Identity, *, sig: signal.Signals = signal.SIGTERM, grace_s: float = 5.0
) -> bool:
    """Ask a process to end, wait, then kill what is left of its session. Repeating is harmless.

    Says whether it ended by itself within `grace_s`. Blocks: async code calls it in a thread.
    """
    family = session(identity)
    if alive(identity):
        _signal(identity.pid, sig)
    gently = wait_gone([identity], timeout_s=grace_s)
    if not gently:
        _signal(identity.pid, signal.SIGKILL)
    left = {*family, *session(identity)} - {identity}
    for member in left:
        if alive(member):
            _signal(member.pid, signal.SIGKILL)
    wait_gone([identity, *left], timeout_s=5.0)
    return gently


def wait_gone(identities: Sequence[Identity], *, timeout_s: float) -> bool:
    """Wait until none of them lives; False when some still do after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.001
    while any(alive(identity) for identity in identities):
        if time.monotonic() > deadline:
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.02)
    return True


def session(identity: Identity) -> list[Identity]:
    """All living processes of the session that this process opened, itself among them.

    The kernel gives a number out again only when no session bears it either: members without
    a leader are still his, a leader with another start time is a stranger with his own.
    """
    leader = _status(identity.pid)
    if leader and leader.started != identity.started:
        return []
    return [
        Identity(other, status.started)
        for other, status in _all()
        if status.session == identity.pid and status.state not in "ZX"
    ]


def marked(home: Home) -> list[Marked]:
    """Every living process that `spawn` started for this home, and what those started."""
    wanted = f"{MARKER}={home.root}".encode()
    found: list[Marked] = []
    for pid, status in _all():
        if status.state in "ZX" or pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            variables = (_PROC / str(pid) / "environ").read_bytes().split(b"\0")
            if wanted in variables:
                prefix = f"{NAME}=".encode()
                name = next((v[len(prefix) :] for v in variables if v.startswith(prefix)), b"")
                found.append(Marked(Identity(pid, status.started), name.decode()))
    return found


def find(home: Home, name: str) -> Identity | None:
    """The living process that was spawned under this name (its session's leader), or None."""
    for process in marked(home):
        pid = process.identity.pid
        if process.name == name and (status := _status(pid)) and status.session == pid:
            return process.identity
    return None


def living_in(folder: Path) -> list[Identity]:
    """Every living process whose working directory is `folder`.

    The way to a database server's children: each opens a session of its own and overwrites its
    environment, but all of them live in the data folder.
    """
    found: list[Identity] = []
    for pid, status in _all():
        with contextlib.suppress(OSError):
            if status.state not in "ZX" and (_PROC / str(pid) / "cwd").readlink() == folder:
                found.append(Identity(pid, status.started))
    return found


def pss_mib(pid: int) -> float:
    """Proportional set size of a process in MiB; 0 when it is gone, RSS where PSS is hidden."""
    try:
        for line in (_PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    except PermissionError:
        with contextlib.suppress(OSError):
            pages = int((_PROC / str(pid) / "statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:
        return 0.0
    return 0.0


def command_line(pid: int) -> str:
    """The command of a process, for messages; empty when it is gone."""
    try:
        text = (
            (_PROC / str(pid) / "cmdline")
            .read_bytes()
            .replace(b"\0", b" ")
            .decode(errors="replace")
        )
    except OSError:
        return ""
    return text.strip()


@dataclass(frozen=True, slots=True)
class _Status:
    state: str
    parent: int
    session: int
    started: int


def _status(pid: int) -> _Status | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the command's name may hold spaces and brackets
    return _Status(fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def _all() -> Iterator[tuple[int, _Status]]:
    for entry in os.scandir(_PROC):
        if entry.name.isdecimal() and (status := _status(int(entry.name))):
            yield int(entry.name), status


def _signal(pid: int, sig: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, sig)


def _dying_with(parent: int, sig: signal.Signals) -> Callable[[], None]:
    def prepare() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(sig), 0, 0, 0)
        if os.getppid() != parent:  # it died in between, and the kernel will not say so again
            os.kill(os.getpid(), sig)

    return prepare


class _Spawner:
    """One thread that lives as long as the process.

    The kernel sends the death signal when the *thread* that forked ends: a child started from a
    thread pool would die with the pool's thread.
    """

    def __init__(self) -> None:
        self._work: (
            queue.SimpleQueue[tuple[Callable[[], Identity], Future[Identity]]] | None
        ) = None
        self._lock = threading.Lock()

    def call(self, start: Callable[[], Identity]) -> Identity:
        with self._lock:
            if self._work is None:
                self._work = queue.SimpleQueue()
                threading.Thread(target=self._run, args=(self._work,), daemon=True).start()
        answer: Future[Identity] = Future()
        self._work.put((start, answer))
        return answer.result()

    def _run(
        self, work: queue.SimpleQueue[tuple[Callable[[], Identity], Future[Identity]]]
    ) -> None:
        while True:
            start, answer = work.get()
            try:
                answer.set_result(start())
            except BaseException as error:  # noqa: BLE001 — handed to the caller, who raises it
                answer.set_exception(error)


_spawner = _Spawner()
_children: dict[Identity, subprocess.Popen[bytes]] = {}
