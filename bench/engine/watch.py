"""Run a command and say what it took: wall, processor, and the memory of its whole tree."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_EVERY_S = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Taken:
    """`peak_mib` is the greatest sum of resident memory of the command and all below it."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    stdout: bytes


def run(argv: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path) -> Taken:
    """Run to the end; raises `RuntimeError` with what it said when it fails.

    A pipeline is given to `sh -c`: its parts are counted all.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        [str(part) for part in argv],
        cwd=cwd,
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    peak = _Peak(process.pid)
    peak.start()
    said: list[bytes] = []
    reader = threading.Thread(target=lambda: said.append(_read(process.stderr)))
    reader.start()
    try:
        stdout = _read(process.stdout)
        reader.join()
        _, status, used = os.wait4(process.pid, 0)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    finally:
        peak.end()
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.monotonic() - began
    if process.returncode:
        text = b"".join(said).decode(errors="replace")[-2000:]
        raise RuntimeError(f"{argv[0]} ended with {process.returncode}: {text}")
    return Taken(wall_s, used.ru_utime + used.ru_stime, peak.mib, stdout)


def _read(pipe: object) -> bytes:
    return pipe.read() if pipe is not None else b""  # pyright: ignore[reportAttributeAccessIssue]


class _Peak(threading.Thread):
    """Looks at the tree of a process again and again."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.mib = 0.0
        self._pid = pid
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_EVERY_S):
            self.mib = max(self.mib, tree_mib(self._pid))

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()
        self.join()


def tree_mib(pid: int) -> float:
    """Resident memory of a process and of all below it, summed."""
    total, waiting = 0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            total += int(Path(f"/proc/{one}/statm").read_text().split()[1])
            for task in Path(f"/proc/{one}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, ValueError):
            continue
    return total * _PAGE / 2**20
