"""Valid values for the router's tests; each takes only what matters."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from geo_router import router, tables
from geo_router.signed import SigningKey

TODAY = "2026-11-24"
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CLUSTERS = ("france", "uk", "united-states", "canada", "south-africa", "india")


def a_key(seed: int = 1) -> SigningKey:
    return SigningKey.from_setting(base64.b64encode(bytes([seed]) * 32).decode())


def ask(
    country: str = "DE",
    *,
    today: str = TODAY,
    placement: dict[str, str] | None = None,
    metric: str = "rtt",
    **fields: object,
) -> dict[str, Any]:
    """The answer object to a request, by the compiled rules, on a fixed day."""
    request = {"country": country, **fields}
    return router.settle(
        tables.load(), request, today=today, placement=placement, metric=metric
    ).answer
