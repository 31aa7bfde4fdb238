"""The figures of the geo router: `python -m bench.geo_router [--json]`.

Each figure is the best of several rounds on one core, beside its goal; the plain reading of the
YAML runs in the same process as the baseline, so that a ratio is a ratio of one run.
"""

from __future__ import annotations

import argparse
import base64
import json
import subprocess
import sys
import time
import tracemalloc
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from geo_router import contract, decide, model, reading, router, signed, tables
from geo_router.rulebook import plain, sources

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[1]
TODAY = "2026-11-24"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROUNDS = 5


class Figure(NamedTuple):
    """A measured value; `at_least` says which way is good."""

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = True

    @property
    def held(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


def main(argv: list[str] | None = None) -> int:
    """Measure, print, and exit 0 whether or not the goals are reached."""
    arguments = argparse.ArgumentParser(prog="python -m bench.geo_router")
    arguments.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = arguments.parse_args(argv).json
    figures = measure()
    if as_json:
        print(json.dumps({"items": [f._asdict() | {"held": f.held} for f in figures]}))
        return 0
    for figure in figures:
        goal = "" if figure.goal is None else f"  goal {figure.goal:,.0f}"
        missed = "  MISSED" if figure.held is False else ""
        print(f"{figure.name:<44} {figure.value:>14,.1f} {figure.unit:<12}{goal}{missed}")
    return 0


def measure() -> list[Figure]:
    """All figures, the memory first: nothing is loaded before."""
    memory = tables_mib()
    rules, given = tables.load(), sources.read()
    grid = [
        {"country": country, "sector": sector}
        for country, sector in product(rules.countries, rules.sectors)
    ]
    read = [reading.read(rules, request)[0] for request in grid]
    placed = [
        model.Request(country=country, coordinates=(at % 90.0, at % 180.0))
        for at, country in enumerate(rules.countries)
    ]
    bodies = [json.dumps(request).encode() for request in grid]
    key = signed.SigningKey.from_setting(base64.b64encode(b"0" * 32).decode())
    tokens = [
        (signed.issue(_answer(rules), key=key, now=NOW, jti="j"), {"country": "FR"})
    ] * 250

    def core(request: model.Request) -> object:
        return decide.decide(rules, request, today=TODAY, open_now=rules.every_cluster)

    def slow(request: dict[str, str]) -> object:
        return plain.decide(given, request, today=TODAY)

    def http(body: bytes) -> object:
        return contract.answer(body, "application/json", now=NOW, key=None)

    def http_signed(body: bytes) -> object:
        return contract.answer(body, "application/json", now=NOW, key=key)

    def verify(case: tuple[str, dict[str, str]]) -> object:
        return signed.verify(case[0], request=case[1], keys=key.public, now=NOW)

    core_per_s, plain_per_s = per_s(core, read, repeat=20), per_s(slow, grid[:250])
    return [
        Figure("decision, core", core_per_s, "1/s", 500_000),
        Figure("decision, plain reading (baseline)", plain_per_s, "1/s"),
        Figure("decision, core to plain", core_per_s / plain_per_s, "times"),
        Figure("decision with coordinates", per_s(core, placed, repeat=10), "1/s", 25_000),
        Figure("explained answer as a dict", per_s(lambda r: _settle(rules, r), grid), "1/s"),
        Figure("JSON to JSON, whole explanation", per_s(http, bodies), "1/s"),
        Figure("JSON to JSON, signed", per_s(http_signed, bodies[:400]), "1/s", 10_000),
        Figure("token verified, request read again", per_s(verify, tokens), "1/s"),
        Figure("tables in memory", memory, "MiB", 2, at_least=False),
        Figure("cold start over bare Python", cold_start_ms(), "ms", 100, at_least=False),
    ]


def per_s[T](call: Callable[[T], object], arguments: list[T], *, repeat: int = 1) -> float:
    """Calls a second over the arguments, the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(repeat):
            for argument in arguments:
                call(argument)
        best = min(best, time.perf_counter() - started)
    return len(arguments) * repeat / best


def tables_mib() -> float:
    """What loading the tables leaves in memory."""
    compiled = tables.COMPILED.read_bytes()
    tracemalloc.start()
    kept = tables.read(compiled)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept.rules
    return size / 2**20


def cold_start_ms() -> float:
    """A process that imports the router and answers once, less one that does nothing."""
    once = "import geo_router; geo_router.route({'country': 'FR'})"
    return 1000 * (_process_s(once) - _process_s("pass"))


def _process_s(program: str) -> float:
    best = float("inf")
    for _ in range(2 * ROUNDS):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
        best = min(best, time.perf_counter() - started)
    return best


def _settle(rules: tables.Tables, request: dict[str, str]) -> object:
    return router.settle(rules, request, today=TODAY).answer


def _answer(rules: tables.Tables) -> dict[str, object]:
    return router.settle(rules, {"country": "FR"}, today=TODAY).answer


if __name__ == "__main__":
    sys.exit(main())
