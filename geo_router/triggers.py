"""The router's endpoint on the Functions host."""

from __future__ import annotations

import functools
from datetime import UTC, datetime

import azure.functions as func

from geo_router import contract
from geo_router.signed import SigningKey
from geo_router.wire import RouteAnswer
from spaces.http import Reply, Request, endpoint

blueprint = func.Blueprint()

REFUSALS = (
    "invalid-input",
    "unknown-country",
    "malformed-json",
    "body-too-large",
    "unsupported-media-type",
    "sanctions",
    "localisation",
    "condition-required",
    "residency-conflict",
    "certification-unavailable",
    "requirement-conflict",
    "no-home-cluster",
)


@endpoint(
    blueprint,
    "POST",
    "/route",
    name="route",
    action="route.decide",
    summary="Decide where a customer's space may live, and sign the decision",
    response=RouteAnswer,
    public=True,
    problems=REFUSALS,
)
async def route(request: Request) -> Reply:
    """Decide; the body is read by the room itself, which names every wrong field at once."""
    found = contract.decide(
        request.raw,
        request.headers.get("content-type", ""),
        now=datetime.now(UTC),
        key=_key(request.settings.decision_key),
    )
    return Reply(body=found.body, status=found.status, headers=found.headers)


@functools.cache
def _key(setting: str) -> SigningKey:
    return SigningKey.from_setting(setting)
