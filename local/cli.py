"""`kpax up | down | status | env | local reset`: steer the local stack.

Everything heavy is imported where it is used; `kpax status` must answer at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local.app_files import Edits
from local.errors import Code, StackError
from local.home import PROJECT, Home
from local.stack import PARTS, environment
from local.supervisor_progress import Lines
from local.supervisor_state import any_running, last_lines, status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.supervisor_state import Service

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]

local_app = typer.Typer(
    help="What concerns this machine alone.\n\nExample: kpax local reset --dry-run",
    no_args_is_help=True,
)


def up(
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return when everything is healthy.")
    ] = False,
    demo: Annotated[
        bool, typer.Option("--demo", help="Play the demo journey once everything is healthy.")
    ] = False,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help="Restart the Functions host when a file of the app changes."
        ),
    ] = False,
) -> None:
    """Start the local stack, or what is missing of it.

    Stays and watches until Ctrl-C, which stops every process and keeps the data.

    Example: kpax up --detach

    With --watch, for those who develop: a saved file is served a few seconds later. What runs is
    finished first; an app that does not load is named with its error, and the next save heals it.
    """
    with _failing():
        if watch and detach:
            raise StackError(
                "--watch stays, and --detach does not.",
                remedy="Leave one of them out.",
                code=Code.BAD_INPUT,
            )
        home = Home.open()
        lines = Lines()
        wish = _Wish()
        if not detach:
            app = Path(os.environ.get("KPAX_APP_DIR") or PROJECT)
            edits = Edits(app) if watch else None
            raise typer.Exit(_stay(home, lines, wish, demo=demo, edits=edits))
        _bring_up(home, lines)
        wish.interrupts = False
        raise typer.Exit(_play(home, wish.asked) if demo else 0)


def down() -> None:
    """Stop the local stack with all databases and space processes; the data stays.

    Example: kpax down
    """
    from local.supervisor import take_down  # noqa: PLC0415 — lazy, see the module's docstring

    with _failing():
        lines = Lines()
        ran = take_down(Home.open(), lines)
        lines.clear()
        _say("Stopped." if ran else "Nothing was running.")


def show_status(as_json: Json = False) -> None:
    """Say which part runs where, and what it takes.

    Exit code 0: all healthy, 1: a part is down, 6: none runs.

    Example: kpax status --json
    """
    with _failing(as_json=as_json):
        home = Home.open()
        services = asyncio.run(status(home))
        all_healthy = all(service.healthy for service in services)
        if as_json:
            body = {service.name: service.as_json() for service in services}
            print(json.dumps({"healthy": all_healthy, "services": body}))
        else:
            _print_status(home, services)
        if not any(service.pid for service in services):
            if not as_json:
                _say("Not running. `kpax up` starts it.")
            raise typer.Exit(Code.UNREACHABLE)
        if not all_healthy:
            raise typer.Exit(Code.FAILED)


def env(as_json: Json = False) -> None:
    """Print the addresses, keys and connection strings of the running stack.

    Example: kpax env --json
    """
    with _failing(as_json=as_json):
        home = Home.open()
        if not any_running(home):
            raise StackError(
                f"No stack runs on {home.root}.",
                remedy="`kpax up` starts it.",
                code=Code.UNREACHABLE,
            )
        found = environment(home)
        if as_json:
            print(json.dumps(found))
        else:
            for name, value in found.items():
                print(f"{name:24}{json.dumps(value) if isinstance(value, dict) else value}")


@local_app.callback()
def _local() -> None:
    """What concerns this machine alone."""


@local_app.command("reset")
def reset(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be deleted, delete nothing.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "--confirm", help="Do not ask: delete all local data.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Why; said on stderr, since no record is left.")
    ] = None,
) -> None:
    """Delete all state of the local stack: spaces, backups, queues, keys.

    Example: kpax local reset --dry-run
    """
    with _failing():
        home = Home.open()
        if any_running(home):
            raise StackError("The stack is running.", remedy="`kpax down` first.")
        if not home.is_own:
            raise StackError(
                f"{home.root} held other things before it became a home.",
                remedy="Delete what you do not need of it yourself.",
            )
        if dry_run:
            print(f"Would delete everything in {home.root}:")
            for entry in sorted(home.root.iterdir()):
                print(f"  {entry.name}")
            return
        if not yes and not _confirmed(home):
            raise StackError("Nothing was deleted.", code=Code.BAD_INPUT)
        shutil.rmtree(home.root)
        why = f" ({reason})" if reason else ""
        _say(f"{home.root} is empty{why}. `kpax up` starts from nothing.")


def _confirmed(home: Home) -> bool:
    if not sys.stdin.isatty():
        raise StackError(
            f"This deletes all local data in {home.root}.",
            remedy="Say --yes where nobody can be asked.",
            code=Code.BAD_INPUT,
        )
    return typer.confirm(f"Delete all local data in {home.root}?", err=True)


# -- up ------------------------------------------------------------------------------------------


def _bring_up(home: Home, lines: Lines) -> None:
    from local.supervisor import bring_up  # noqa: PLC0415 — lazy, see the module's docstring

    try:
        asyncio.run(bring_up(home, lines))
    finally:
        lines.clear()
    _say(f"The local stack is healthy. State and logs: {home.root}")
    _say(f"  console     {environment(home)['console']}")
    _say(f"  front door  {environment(home)['front_door']}")


def _stay(home: Home, lines: Lines, wish: _Wish, *, demo: bool, edits: Edits | None) -> int:
    """Bring up, watch, and take down when asked by Ctrl-C, SIGTERM or a closed terminal."""
    from local.supervisor import take_down  # noqa: PLC0415 — lazy, see the module's docstring

    code = 0
    try:
        _bring_up(home, lines)
        wish.interrupts = False
        code = _play(home, wish.asked) if demo else 0
        if not wish.asked.is_set():
            _say("Ctrl-C stops everything and keeps the data.")
        if _watch(home, wish.asked, lines, edits):
            _say("Stopped by another command.")
            return code
    except KeyboardInterrupt:
        pass  # asked to end while starting: what was started is stopped already, the rest follows
    # From here on the wish is deaf: an impatient second Ctrl-C must not cut Azurite's last write.
    wish.interrupts = False
    _say("\nStopping …")
    take_down(home, lines)
    lines.clear()
    _say("Stopped. The data stays.")
    return code


def _watch(home: Home, asked: threading.Event, lines: Lines, edits: Edits | None) -> bool:
    """Name each part that ends, follow edits. True when all were stopped from elsewhere."""
    from local.supervisor import crash_report, crashed  # noqa: PLC0415 — lazy, as above
    from local.supervisor_state import recorded  # noqa: PLC0415 — lazy, as above

    told: set[object] = set()
    while not asked.wait(0.5 if edits is None else 0.2):
        if not any(recorded(home, part) for part in PARTS):
            return True
        if edits is not None and (changed := edits.seen()):
            _follow(home, lines, changed)
            told |= {recorded(home, part) for part in crashed(home)}
        for part in crashed(home):
            identity = recorded(home, part)
            if identity not in told:
                told.add(identity)
                _say(f"! {crash_report(home, part)}")
    return False


def _follow(home: Home, lines: Lines, changed: list[str]) -> None:
    """Restart the Functions host on the changed files of its app."""
    from local.supervisor import restart  # noqa: PLC0415 — lazy, as above

    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    _say(f"{changed[0]}{more} changed, the Functions host starts anew.")
    try:
        restart(home, "functions_host", lines)
    except StackError as error:
        lines.clear()
        _say(f"! {error}\nThe next save tries again.")


def _play(home: Home, asked: threading.Event) -> int:
    """The journey, as a process of its own; its exit code as ours."""
    journey = subprocess.Popen(
        [sys.executable, "-m", "local.demo"],
        cwd=PROJECT,
        env={**os.environ, "KPAX_HOME": str(home.root)},
    )
    while (code := _ended(journey)) is None:
        if asked.is_set():
            journey.terminate()
    if code and not asked.is_set():
        _say(f"The demo journey ended with {code}; the stack stays up for a look.")
    return int(Code.FAILED) if code else 0


def _ended(journey: subprocess.Popen[bytes]) -> int | None:
    try:
        return journey.wait(0.2)
    except subprocess.TimeoutExpired:
        return None


class _Wish:
    """Somebody wants us to end: an interruption while `interrupts`, else a flag to look at."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.interrupts = True
        for sig in self.SIGNALS:
            signal.signal(sig, self._ask)

    def _ask(self, *_: object) -> None:
        first = not self.asked.is_set()
        self.asked.set()
        if first and self.interrupts:
            raise KeyboardInterrupt


# -- output --------------------------------------------------------------------------------------


def _print_status(home: Home, services: list[Service]) -> None:
    print(f"{'PART':18}{'STATE':11}{'PID':>8}  {'PSS MiB':>8}  ADDRESS")
    for service in services:
        state = "healthy" if service.healthy else "sick" if service.pid else "down"
        pid = service.pid or "—"
        size = f"{service.pss_mib:.1f}" if service.pid else "—"
        print(f"{service.name:18}{state:11}{pid:>8}  {size:>8}  {service.address}")
    print(f"{'':18}{'':11}{'':>8}  {sum(s.pss_mib for s in services):8.1f}")
    for part, service in zip(PARTS, services, strict=True):
        if service.crashed:
            _say(f"{service.name} has ended; the end of its log:\n{last_lines(home, part)}")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


@contextlib.contextmanager
def _failing(*, as_json: bool = False) -> Iterator[None]:
    try:
        yield
    except StackError as error:
        if as_json:
            slug = "dependency-unavailable" if error.code is Code.UNREACHABLE else "local-stack"
            document = {
                "type": f"https://errors.kpax.invalid/{slug}",
                "title": error.what,
                "status": 503,
                "detail": error.remedy or error.what,
            }
            print(json.dumps(document, ensure_ascii=False))
        else:
            _say(f"Error: {error}")
        raise typer.Exit(int(error.code)) from error
