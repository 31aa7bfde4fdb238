"""What must hold before anything is started: disk, ports, system. Each finding says what to do."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from local import processes
from local.errors import StackError
from local.home import is_free

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local.home import Home
    from local.stack import Part

_LISTENING = "0A"  # state of /proc/net/tcp


def check_system() -> None:
    """Refuse a system whose processes cannot be told apart.

    Raises:
        StackError: this is not Linux.
    """
    if sys.platform != "linux":
        raise StackError(
            f"The local stack runs on Linux, this is {sys.platform}.",
            remedy="Use a Linux machine, a virtual one, or WSL.",
        )


def check_disk(home: Home) -> None:
    """Refuse to start with too little disk: Azurite and PostgreSQL would fail half-way.

    Raises:
        StackError: less than KPAX_MIN_FREE_MIB (500) is free.
    """
    wanted = os.environ.get("KPAX_MIN_FREE_MIB", "500")
    if not wanted.isdecimal():
        raise StackError(
            f"KPAX_MIN_FREE_MIB is {wanted!r}, which is no number of MiB.",
            remedy="Leave it out, or give a whole number.",
        )
    needed = int(wanted)
    free = shutil.disk_usage(home.root).free // 2**20
    if free < needed:
        raise StackError(
            f"Only {free} MiB are free on the disk of {home.root}, {needed} are needed.",
            remedy="Free some, or name another place with KPAX_HOME. Nothing was started.",
        )


def check_ports(home: Home, parts: Iterable[Part]) -> None:
    """Refuse ports that somebody else holds, and name him.

    Raises:
        StackError: a port of a part that is to be started is taken.
    """
    for part in parts:
        for name, port in part.all_ports(home).items():
            if not is_free(port):
                of = part.name if name in part.ports else f"{part.name} ({name})"
                raise StackError(
                    f"Port {port} of {of} is taken by {holder(port)}.",
                    remedy="End it, then `kpax up`. Nothing was started.",
                )


def holder(port: int) -> str:
    """Who listens on this port, for a message: pid and command where they can be seen."""
    sockets = set(_listening_sockets(port))
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with suppress(OSError):
            if any(str(file.readlink()) in sockets for file in (entry / "fd").iterdir()):
                return f"pid {entry.name} ({processes.command_line(int(entry.name))})"
    return "a process of another user"


def _listening_sockets(port: int) -> Iterable[str]:
    for table in ("tcp", "tcp6"):
        with suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    yield f"socket:[{fields[9]}]"
