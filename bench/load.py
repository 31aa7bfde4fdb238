"""A load of HTTP requests from the cheapest client there is.

It shares the processor with what it measures, so it does no more than write a request and read
the answer to its end.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import kit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CONNECTIONS = 8
_WARM_UP_S = 0.5


@dataclass(frozen=True, slots=True)
class Load:
    """Requests a second over a few connections, and how long one took."""

    per_s: float
    p50_ms: float
    p99_ms: float


async def load(
    port: int,
    method: str,
    path: str,
    *,
    seconds: float,
    headers: Mapping[str, str] | None = None,
    bodies: Sequence[bytes] = (b"",),
) -> Load:
    """Ask over `CONNECTIONS` connections for some seconds; every answer must be below 500."""
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    requests = [f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body for body in bodies]
    await _clients(port, requests, _WARM_UP_S)
    began = time.perf_counter()
    took = await _clients(port, requests, seconds)
    rate = len(took) / (time.perf_counter() - began)
    return Load(rate, kit.median(took), kit.quantile(took, 0.99))


async def _clients(port: int, requests: Sequence[bytes], seconds: float) -> list[float]:
    took: list[float] = []
    end = time.perf_counter() + seconds
    await asyncio.gather(*(_client(port, requests, end, took) for _ in range(CONNECTIONS)))
    return took


async def _client(port: int, requests: Sequence[bytes], end: float, took: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = 0
    while (started := time.perf_counter()) < end:
        writer.write(requests[number % len(requests)])
        number += 1
        head = await reader.readuntil(b"\r\n\r\n")
        status, *lines = head.lower().split(b"\r\n")
        if not b"200" <= status.split()[1] < b"500":
            raise RuntimeError(f"answered {status.decode()}")
        length = next(
            int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length")
        )
        await reader.readexactly(length)
        took.append((time.perf_counter() - started) * 1000)
    writer.close()
