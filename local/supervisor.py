"""Start and stop the local stack: all parts at once, all or nothing, Azurite last.

Nothing is restarted behind anybody's back: a part that ended stays down until the next `up`, and
`watch` names it with its last log lines. There is no daemon; `supervisor_state.py` tells why.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Protocol

from local import processes
from local.azurite import servers
from local.errors import Code, StackError
from local.limits import Limiter
from local.postgres import PostgresServers
from local.stack import PARTS, healthy
from local.supervisor_checks import check_disk, check_ports, check_system
from local.supervisor_state import forget, last_lines, log_file, record, recorded, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from local.home import Home
    from local.processes import Identity
    from local.stack import Part

_LOG_LIMIT = 16 * 2**20


class Progress(Protocol):
    """Who is told what happens; see `supervisor_progress.py`."""

    def waiting(self, names: Sequence[str]) -> None:
        """These parts are not there yet."""
        ...

    def done(self, name: str, took_s: float) -> None:
        """One of them is."""
        ...

    def remark(self, text: str) -> None:
        """Something to know."""
        ...


async def bring_up(home: Home, progress: Progress) -> None:
    """Start what is missing and return when everything is healthy.

    May be repeated. When a part fails, what this call started is stopped again, the rest stays.

    Raises:
        StackError: with the reason and, for a part that ended, its last log lines.
    """
    check_system()
    check_disk(home)
    with _alone(home, progress):
        missing = [part for part in PARTS if running(home, part) is None]
        _end_leftovers(home, missing)
        check_ports(home, missing)
        for one in missing:
            _warn_unclean(home, one, progress)
        started: dict[str, Identity] = {}
        try:
            await _start_all(home, missing, started, progress)
            await _furnish(home, progress)
        except BaseException:
            # Spaces that ran before a single part was restarted go on running.
            _stop_in_turns(home, progress, started, spaces=len(started) == len(PARTS))
            raise


def restart(home: Home, name: str, progress: Progress) -> None:
    """Stop one part as gently as it wants, and start it anew; one that is down is started.

    Raises:
        StackError: it did not start, with its last log lines; it stays recorded as crashed.
    """
    one = next(part for part in PARTS if part.name == name)
    with _alone(home, progress):
        began = time.monotonic()
        identity = running(home, one)
        if identity is not None:
            progress.waiting([f"{name} ends what it does"])
            processes.end(identity, grace_s=one.grace_s)
        _end_leftovers(home, [one])
        started = {name: _start(home, one)}
        record(home, one, started[name])
        asyncio.run(_until_healthy(home, [one], started, progress, began=began))


def take_down(home: Home, progress: Progress) -> bool:
    """Stop everything of this home, databases and space processes included; data stays.

    False when nothing ran. May be repeated; finishes what a killed one left.
    """
    with _alone(home, progress):
        found = {part.name: identity for part in PARTS if (identity := running(home, part))}
        ran = bool(found) or bool(processes.marked(home))
        _stop_in_turns(home, progress, found, spaces=True)
        for one in PARTS:
            forget(home, one)
    return ran


def crashed(home: Home) -> list[Part]:
    """Parts that were started, were not stopped, and are gone."""
    return [one for one in PARTS if recorded(home, one) and running(home, one) is None]


def crash_report(home: Home, one: Part) -> str:
    """What to say about a part that is gone."""
    identity = recorded(home, one)
    ended = processes.exit_status(identity) if identity else None
    how = (
        "" if ended is None else f" by signal {-ended}" if ended < 0 else f" with exit {ended}"
    )
    pid = f" (pid {identity.pid})" if identity else ""
    return (
        f"{one.name}{pid} has ended{how}. `kpax up` starts it again. "
        f"The end of {log_file(home, one)}:\n{last_lines(home, one)}"
    )


# -- starting ------------------------------------------------------------------------------------


async def _start_all(
    home: Home, missing: Sequence[Part], started: dict[str, Identity], progress: Progress
) -> None:
    began = time.monotonic()
    for one in missing:
        started[one.name] = _start(home, one)
        record(home, one, started[one.name])
    await _until_healthy(home, PARTS, started, progress, began=began)


async def _until_healthy(
    home: Home,
    parts: Sequence[Part],
    started: dict[str, Identity],
    progress: Progress,
    *,
    began: float,
) -> None:
    deadline = began + float(os.environ.get("KPAX_UP_TIMEOUT_S", "120"))
    waiting = list(parts)
    while waiting:
        progress.waiting([one.name for one in waiting])
        answers = await asyncio.gather(*(healthy(home, one) for one in waiting))
        for one, answered in zip(tuple(waiting), answers, strict=True):
            identity = started.get(one.name) or running(home, one)
            if identity is None or not processes.alive(identity):
                raise StackError(f"{one.name} did not start. {crash_report(home, one)}")
            if answered:
                waiting.remove(one)
                if one.name in started:
                    progress.done(one.name, time.monotonic() - began)
        if waiting and time.monotonic() > deadline:
            names = ", ".join(one.name for one in waiting)
            raise StackError(
                f"Not healthy in time: {names}. The end of {log_file(home, waiting[0])}:\n"
                f"{last_lines(home, waiting[0])}",
                remedy="KPAX_UP_TIMEOUT_S gives more time.",
            )
        await asyncio.sleep(0.05)


def _start(home: Home, one: Part) -> Identity:
    log = log_file(home, one)
    if log.exists() and log.stat().st_size > _LOG_LIMIT:
        log.replace(log.with_suffix(".log.1"))
    if one.is_azurite:
        return servers.start(home, one.name)
    return processes.spawn(
        [sys.executable, "-m", f"local.{one.name}"],
        home=home,
        name=one.name,
        log=log,
        env=_variables(home, one),
        die_with_parent=False,
    )


def _variables(home: Home, one: Part) -> dict[str, str]:
    variables = {
        "KPAX_HOME": str(home.root),
        "PYTHONUNBUFFERED": "1",
        "MALLOC_ARENA_MAX": "2",  # glibc's arenas per thread cost more memory than they save time
    }
    # A proxy for the world must not be asked for 127.0.0.1.
    for name in ("NO_PROXY", "no_proxy"):
        kept = [
            text for text in (os.environ.get(name), "127.0.0.1,localhost,.localhost") if text
        ]
        variables[name] = ",".join(kept)
    if one.name == "functions_host":
        from local.app_settings import app_settings  # noqa: PLC0415 — 0.3 s, this one part only

        variables |= app_settings(home)
    return variables


async def _furnish(home: Home, progress: Progress) -> None:
    """The shared pieces of the six clusters, then what belongs to spaces and does not run."""
    from local.resource_manager.seed import seed  # noqa: PLC0415 — the SDK: needed here alone

    progress.waiting(["shared resources of the six clusters"])
    began = time.monotonic()
    await seed(home)
    progress.done("clusters", time.monotonic() - began)
    progress.waiting(["databases and space processes"])
    await asyncio.to_thread(_tell_resource_manager, home, "repair")


def _tell_resource_manager(home: Home, verb: str) -> None:
    connection = HTTPConnection("127.0.0.1", home.port("resource_manager"), timeout=120)
    headers = {"Authorization": f"Bearer {home.secret('token')}"}
    try:
        connection.request("POST", f"/_local/{verb}", headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace")
        if answer.status >= 300 and verb == "repair":
            raise StackError(
                f"The Resource Manager could not repair: {answer.status} {body[:400]}"
            )
    except (OSError, HTTPException) as error:
        if verb == "repair":
            raise StackError(f"The Resource Manager does not answer: {error}.") from error
    finally:
        connection.close()


def _warn_unclean(home: Home, one: Part, progress: Progress) -> None:
    if one.is_azurite and servers.ended_uncleanly(home, one.name):
        progress.remark(
            f"{one.name} was not stopped cleanly last time: what it acknowledged in its last five "
            "seconds may be gone, while the bus kept it. If spaces look odd, `kpax down` and "
            "`kpax local reset` start from nothing (all local data is deleted)."
        )


def _end_leftovers(home: Home, missing: Sequence[Part]) -> None:
    """Children of a killed part that still hold its port."""
    names = {one.name for one in missing}
    for process in processes.marked(home):
        if process.name in names:
            processes.end(process.identity)


# -- stopping ------------------------------------------------------------------------------------


def _stop_in_turns(
    home: Home, progress: Progress, found: dict[str, Identity], *, spaces: bool
) -> None:
    """Stop these parts in the order of `Part.stops`; `spaces`: databases and instances too."""
    for turn in sorted({part.stops for part in PARTS}):
        now = [part for part in PARTS if part.stops == turn and part.name in found]
        progress.waiting([one.name for one in now])
        if spaces and any(one.name == "resource_manager" for one in now):
            _tell_resource_manager(home, "stop")
        _stop_all(home, now, found)
        if spaces and turn == 1:
            _end_spaces(home)


def _stop_all(home: Home, parts: Sequence[Part], found: dict[str, Identity]) -> None:
    def stop(one: Part) -> None:
        if one.is_azurite:
            servers.stop(home, one.name, found[one.name])
        else:
            processes.end(found[one.name], grace_s=one.grace_s)
        forget(home, one)

    _at_once([lambda one=one: stop(one) for one in parts])


def _end_spaces(home: Home) -> None:
    """Databases and space processes by themselves: the Resource Manager may not have answered."""
    databases = PostgresServers(home)
    _at_once(
        [
            lambda server=server: asyncio.run(databases.stop(server.name))
            for server in databases.all()
            if server.running
        ]
    )
    keep = {one.name for one in PARTS if one.stops > 1}
    left = [process for process in processes.marked(home) if process.name not in keep]
    _at_once([lambda found=found: processes.end(found.identity) for found in left])
    Limiter(home).sweep()


def _at_once(works: Sequence[Callable[[], object]]) -> None:
    if works:
        with ThreadPoolExecutor(len(works)) as pool:
            for done in [pool.submit(work) for work in works]:
                done.result()


@contextmanager
def _alone(home: Home, progress: Progress) -> Iterator[None]:
    """One `up` or `down` at a time; the second waits for the first and then looks anew."""
    with home.locked("supervisor", wait=False) as held:
        if held:
            yield
            return
    progress.remark("Another `kpax up` or `kpax down` is at work on this home, waiting for it.")
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with home.locked("supervisor", wait=False) as held:
            if held:
                yield
                return
        time.sleep(0.1)
    raise StackError(
        f"Another `kpax up` or `kpax down` holds {home.root} for three minutes already.",
        code=Code.FAILED,
    )
