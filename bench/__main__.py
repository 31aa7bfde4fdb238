"""Measure the figures of docs/benchmarks.md.

    python -m bench                     all of them, some minutes
    python -m bench opening wire        these
    python -m bench --json              one JSON object on stdout
    python -m bench --publish           also write the tables of docs/benchmarks.md; with names,
                                        these tables alone

A missed goal is told, not an error; exit code 1 says that something could not be measured.
"""

from __future__ import annotations

import argparse
import importlib
import json
import signal
import sys
import time
from typing import TYPE_CHECKING, NoReturn

from bench import kit
from local.home import PROJECT

if TYPE_CHECKING:
    from collections.abc import Sequence

# The router first: it measures processor time, and a process that has imported little is quicker.
BENCHMARKS = {
    "geo_router": "the router in its own process",
    "up": "the stack from nothing to healthy, and what it takes in memory",
    "opening": "a paid event to a URL that answers, one space at a time",
    "crowd": "twenty orders at once",
    "wire": "table transactions and bus messages of openings and operations, on the wire",
    "saga_steps": "steps a second of one worker with 20 ms of I/O, beside DBOS",
    "backup": "backup, destruction and restore of a small space",
    "service_bus": "the broker through the sync SDK, beside one that keeps nothing",
    "service_bus_load": "the broker with a full queue and with a thousand idle receivers",
    "functions_host": "the Functions host beside a bare server",
    "geo_http": "the router behind the Functions host",
}
PUBLISHED = PROJECT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.description = __doc__
    parser.add_argument("name", nargs="*", help=f"one of {', '.join(BENCHMARKS)}; all without")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md")
    options = parser.parse_args(argv)
    unknown = [name for name in options.name if name not in BENCHMARKS]
    if unknown:
        parser.error(f"{', '.join(unknown)}: choose from {', '.join(BENCHMARKS)}")
    signal.signal(signal.SIGTERM, _end)
    where = kit.machine()
    results = [measured(name) for name in options.name or BENCHMARKS]
    if options.json:
        items = [result.as_json() for result in results]
        print(json.dumps({"machine": where, "items": items}))
    if options.publish:
        if options.name:
            publish_some(results, where)
        else:
            publish(kit.markdown(results, where))
    return 1 if any(result.failure for result in results) else 0


def measured(name: str) -> kit.Result:
    """Run one benchmark; what it says goes to stderr as soon as it is known."""
    _say(f"{name}: {BENCHMARKS[name]}")
    began, before = time.monotonic(), kit.load()
    figures: list[kit.Figure] = []
    failure = None
    try:
        figures = importlib.import_module(f"bench.{name}").measure()
    except Exception as error:  # noqa: BLE001 — told, counted in the exit code; the others go on
        failure = f"{type(error).__name__}: {error}"
    result = kit.Result(
        name=name,
        took_s=time.monotonic() - began,
        load_before=before,
        load_after=kit.load(),
        figures=figures,
        failure=failure,
    )
    for line in kit.rows(figures):
        _say(line)
    _say(
        f"  {'FAILED: ' + failure if failure else ''}({result.took_s:.0f} s, load"
        f" {before:.1f} before, {result.load_after:.1f} after)\n"
    )
    return result


def publish(text: str) -> None:
    """Put the tables between the marks of the published page; the rest of it is written by hand."""
    head, _, tail = _page()
    PUBLISHED.write_text(f"{head}{BEGIN}{text}{END}{tail}", encoding="utf-8")


def publish_some(results: Sequence[kit.Result], where: dict[str, str]) -> None:
    """Put these tables in the place of the older ones; each says when it was taken."""
    _, text, _ = _page()
    for result in results:
        text = kit.replaced(text, result, where)
    publish(text)


def _page() -> tuple[str, str, str]:
    """What stands before the tables, the tables, what stands after them."""
    page = PUBLISHED.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    tables, _, tail = rest.partition(END)
    return head, tables, tail


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _end(*_: object) -> NoReturn:
    """End as by Ctrl-C: every benchmark stops what it started."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        _say("Interrupted; what was started is stopped.")
        sys.exit(130)
