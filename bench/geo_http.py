"""The router behind the Functions host: how many answers a second, and what share is the host's.

The same bodies are answered in this process by the same code, without HTTP: what a request takes
longer is the host's, the transport's and the client's, which share the cores with it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp

from bench import kit
from bench.kit import Figure
from bench.load import load
from bench.stack import running
from geo_router import contract, signed, tables

if TYPE_CHECKING:
    from local.home import Home

ROUNDS, SECONDS = 3, 2.0
WORST_GOAL_MS = 50.0
TRIES = 20
BAD: dict[str, bytes] = {
    "bytes": bytes(range(256)) * 60,
    "deep JSON": b'{"country":' * 1_300 + b"1" + b"}" * 1_300,
    "huge number": b'{"country": ' + b"9" * 16_000 + b"}",
    "NaN": b'{"country": NaN}',
    "duplicate keys": b'{"country": "FR", "country": "DE"}',
    "lone surrogate": b'{"country": "\\ud800"}',
    "a million items": b'{"country": "FR", "assertions": [' + b'"a",' * 1_000_000 + b'"a"]}',
}


def measure() -> list[Figure]:
    """Rounds of load on a running stack, in turn with the same answers in this process."""
    with running() as stack:
        return asyncio.run(_measure(stack.home))


async def _measure(home: Home) -> list[Figure]:
    port = home.port("functions_host")
    bodies = [json.dumps({"country": country}).encode() for country in tables.load().countries]
    headers = {
        "x-functions-key": home.secret("function_key"),
        "Content-Type": "application/json",
    }
    loads, alone = [], []
    for _ in range(ROUNDS):
        alone.append(_alone_ms(bodies))
        loads.append(
            await load(
                port, "POST", "/api/v1/route", seconds=SECONDS, headers=headers, bodies=bodies
            )
        )
    rates = [one.per_s for one in loads]
    share = kit.median([1 - ms * rate / 1000 for ms, rate in zip(alone, rates, strict=True)])
    worst = await _worst_ms(port, headers)
    slowest = max(worst, key=lambda name: worst[name])
    return [
        Figure(
            "answers over HTTP, signed", kit.median(rates), "1/s", note=kit.spread(rates, "1/s")
        ),
        Figure("… p50", kit.median([one.p50_ms for one in loads]), "ms"),
        Figure("… p99", kit.median([one.p99_ms for one in loads]), "ms"),
        Figure("one answer without HTTP (baseline)", kit.median(alone), "ms"),
        Figure("share of the host, HTTP and the client", 100 * share, "%"),
        Figure(
            "slowest refusal of bad input",
            worst[slowest],
            "ms",
            WORST_GOAL_MS,
            at_least=False,
            note=f"{slowest}; median of {TRIES} for each of {len(BAD)}",
        ),
    ]


def _alone_ms(bodies: list[bytes]) -> float:
    key = signed.SigningKey.from_setting(base64.b64encode(b"0" * 32).decode())
    now = datetime.now(UTC)
    began = time.perf_counter()
    for body in bodies:
        contract.answer(body, "application/json", now=now, key=key)
    return 1000 * (time.perf_counter() - began) / len(bodies)


async def _worst_ms(port: int, headers: dict[str, str]) -> dict[str, float]:
    """How long the answer to each bad body takes; each must be a refusal, never a failure."""
    took: dict[str, float] = {}
    async with aiohttp.ClientSession(headers=headers) as session:
        for name, body in BAD.items():
            times: list[float] = []
            for _ in range(TRIES):
                began = time.perf_counter()
                url = f"http://127.0.0.1:{port}/api/v1/route"
                async with session.post(url, data=body) as answer:
                    await answer.read()
                    if not 400 <= answer.status < 500:
                        raise RuntimeError(f"{name}: answered {answer.status}")
                times.append(1000 * (time.perf_counter() - began))
            took[name] = kit.median(times)
    return took
