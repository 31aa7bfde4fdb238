"""The geo router in its own process.

Rates are calls per second of processor time, the best of several rounds on one core, so that a
busy machine does not count; the plain reading of the YAML runs in the same process as the baseline.
"""

from __future__ import annotations

import base64
import io
import json
import random
import subprocess
import sys
import tempfile
import time
import tracemalloc
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from bench.kit import Figure
from geo_router import contract, decide, model, reading, router, signed, tables
from geo_router.rulebook import plain, sources
from geo_router.rulebook.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).parents[1]
TODAY = "2026-11-24"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROUNDS = 5
ROWS = 1_000_000
MOST = contract.LARGEST_BODY - 64
BAD_BODIES = [
    b"",
    b"[" * MOST,
    b'{"a":' * (MOST // 6) + b"1" + b"}" * (MOST // 6),
    b'{"country":"DE","coordinates":[' + b"9" * MOST + b",1]}",
    b'{"country":"DE","coordinates":[NaN,1]}',
    b'{"country":"' + b"\\u0041" * (MOST // 6) + b'"}',
    b'{"country":"' + b"A" * MOST + b'"}',
    b'{"country":"\\ud800"}',
    b'{"country":"DE","country":"FR"}',
    b'{"country":"DE","exclude":[' + b",".join([b'"x"'] * (MOST // 4 - 8)) + b"]}",
    b'{"country":"DE","assertions":[' + b",".join([b"{}"] * (MOST // 3 - 12)) + b"]}",
    b"{" + b",".join(b'"k%d":1' % at for at in range(MOST // 10)) + b"}",
    b'{"country":"DE","measured_rtt":{'
    + b",".join(b'"/~%d":[]' % at for at in range(MOST // 13))
    + b"}}",
    b'{"country":"DE","exclude":[' + b",".join([b'"uk"'] * 1_000_000) + b"]}",
    random.Random(2).randbytes(MOST),  # noqa: S311 - the same bytes in every run
]
"""What a stranger may send: as large as is read at all, and once far beyond."""


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

    answering = Batch(rules, TODAY)

    def line(body: bytes) -> object:
        return answering.answered_line(body)

    core_per_s, plain_per_s = per_s(core, read, repeat=20), per_s(slow, grid[:250])
    return [
        Figure("decision, core", core_per_s, "1/s", 500_000),
        Figure("decision, plain reading (baseline)", plain_per_s, "1/s"),
        Figure("decision, core to plain", core_per_s / plain_per_s, "times"),
        Figure("decision with coordinates", per_s(core, placed, repeat=10), "1/s", 25_000),
        Figure("explained answer as a dict", per_s(lambda r: _settle(rules, r), grid), "1/s"),
        Figure("JSON to JSON, a line, decided", per_s(line, bodies), "1/s", 100_000),
        Figure(
            "JSON to JSON, lines of a file", json_lines_per_s(rules, bodies), "1/s", 100_000
        ),
        Figure("JSON to JSON, whole explanation", per_s(http, bodies), "1/s"),
        Figure("JSON to JSON, signed", per_s(http_signed, bodies[:400]), "1/s", 10_000),
        Figure("token verified, request read again", per_s(verify, tokens), "1/s"),
        Figure(
            "bad input, the slowest body",
            slowest_ms(http, BAD_BODIES),
            "ms",
            50,
            at_least=False,
        ),
        *batch_figures(rules),
        Figure("tables in memory", memory, "MiB", 2, at_least=False),
        Figure("cold start over bare Python", cold_start_ms(), "ms", 100, at_least=False),
    ]


def per_s[T](call: Callable[[T], object], arguments: list[T], *, repeat: int = 1) -> float:
    """Calls a second over the arguments, the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(repeat):
            for argument in arguments:
                call(argument)
        best = min(best, time.process_time() - started)
    return len(arguments) * repeat / best


def slowest_ms(call: Callable[[bytes], object], arguments: Sequence[bytes]) -> float:
    """The processor time of the argument that takes longest, each in its best round."""
    worst = 0.0
    for argument in arguments:
        took = [per_s(call, [argument]) for _ in range(2)]
        worst = max(worst, 1000 / max(took))
    return worst


def batch_figures(rules: tables.Tables) -> list[Figure]:
    """A million rows, CSV to CSV, in a process of its own: its time and its greatest memory."""
    dice = random.Random(1)  # noqa: S311 - the same rows in every run
    codes, wishes = (
        list(rules.countries),
        ("", "authority_approval", "explicit_consent;vendor_dpf"),
    )
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.csv"), Path(folder, "out.csv")
        with source.open("w") as file:
            file.write("country,sector,assertions,prefer\n")
            file.writelines(
                f"{dice.choice(codes)},{dice.choice(rules.sectors)},{dice.choice(wishes)},"
                f"{dice.choice(('', 'latency'))}\n"
                for _ in range(ROWS)
            )
        program = (
            # VmHWM and not getrusage: a child's ru_maxrss begins with what its parent held.
            "import re, sys, time; from pathlib import Path; from geo_router import tables;"
            "from geo_router.rulebook.batch import Batch; began = time.perf_counter();"
            f"Batch(tables.load(), '{TODAY}').run(Path(sys.argv[1]), Path(sys.argv[2]));"
            "status = Path('/proc/self/status').read_text();"
            "print(time.perf_counter() - began, int(re.search(r'VmHWM:\\s*(\\d+)', status)[1]) / 1024)"
        )
        run = subprocess.run(
            [sys.executable, "-c", program, source, target],
            check=True,
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        with target.open() as file:
            assert sum(1 for _ in file) == ROWS + 1
    took_s, most_mib = map(float, run.stdout.split())
    return [
        Figure("a million rows, csv to csv", took_s, "s", 10, at_least=False),
        Figure("a million rows, greatest memory", most_mib, "MiB", 64, at_least=False),
    ]


def json_lines_per_s(rules: tables.Tables, lines: list[bytes]) -> float:
    """Lines of a file that repeats them eighty times, as customers' countries repeat."""
    text = b"\n".join(lines * 80)
    started = time.process_time()
    count = Batch(rules, TODAY).json_lines(io.BytesIO(text), io.BytesIO())
    return count.rows / (time.process_time() - started)


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
