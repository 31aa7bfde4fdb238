"""Which part runs as which process: one small file per part, written by whoever started it.

There is no daemon that could die and forget: `run/<part>.json` names a process by pid and start
time, and a part whose starter died before writing is found by its marker. A file without its
process is a crash; a part that was stopped has no file.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local import processes
from local.home import replace_text
from local.processes import Identity
from local.stack import PARTS, healthy

if TYPE_CHECKING:
    from pathlib import Path

    from local.home import Home
    from local.stack import Part

_TAIL_LINES = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One part as it is now. `crashed`: it was started, nobody stopped it, and it is gone."""

    name: str
    healthy: bool
    pid: int | None
    address: str
    pss_mib: float
    crashed: bool

    def as_json(self) -> dict[str, object]:
        """The shape of `kpax status --json`."""
        return {
            "healthy": self.healthy,
            "pid": self.pid,
            "address": self.address,
            "pss_mib": round(self.pss_mib, 1),
        }


def running(home: Home, part: Part) -> Identity | None:
    """The living process of the part, or None."""
    known = recorded(home, part)
    if known and processes.alive(known):
        return known
    return processes.find(home, part.name)


def recorded(home: Home, part: Part) -> Identity | None:
    """The process that was started last and not stopped since, alive or not."""
    with suppress(FileNotFoundError):
        found: Any = json.loads(_file(home, part).read_bytes())
        return Identity(found["pid"], found["started"])
    return None


def record(home: Home, part: Part, identity: Identity) -> None:
    """Write down who the part is now."""
    text = json.dumps({"pid": identity.pid, "started": identity.started})
    replace_text(_file(home, part), text)


def forget(home: Home, part: Part) -> None:
    """The part was stopped on purpose."""
    _file(home, part).unlink(missing_ok=True)


def any_running(home: Home) -> bool:
    """Whether any part of the stack lives."""
    return any(running(home, part) for part in PARTS)


async def status(home: Home) -> list[Service]:
    """Every part as it is now."""
    return list(await asyncio.gather(*(_service(home, part) for part in PARTS)))


async def _service(home: Home, part: Part) -> Service:
    identity = running(home, part)
    family = processes.session(identity) if identity else []
    return Service(
        name=part.name,
        healthy=identity is not None and await healthy(home, part),
        pid=identity.pid if identity else None,
        address=part.address(home),
        pss_mib=sum(processes.pss_mib(member.pid) for member in family),
        crashed=identity is None and recorded(home, part) is not None,
    )


def log_file(home: Home, part: Part) -> Path:
    """Where the part's output goes."""
    return home.path("logs", f"{part.name}.log")


def last_lines(home: Home, part: Part) -> str:
    """The end of the part's log, indented, for a message."""
    with suppress(OSError):
        with log_file(home, part).open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 8_000))
            lines = file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:]
        return "\n".join(f"    {line[:400]}" for line in lines) or "    (its log is empty)"
    return "    (it wrote no log)"


def _file(home: Home, part: Part) -> Path:
    return home.path("run", f"{part.name}.json")
