"""The router's endpoints on the Functions host: a question, its preview, and the rules to look at."""

from __future__ import annotations

import functools
from typing import Any

import azure.functions as func

from geo_router import contract, lookup, tables
from geo_router.reading import FIELDS
from geo_router.signed import SigningKey
from geo_router.wire import RouteAnswer
from spaces.errors import NotFoundError
from spaces.http import Reply, Request, endpoint

blueprint = func.Blueprint()

REFUSALS = (
    "invalid-input",
    "unknown-country",
    "sanctions",
    "localisation",
    "condition-required",
    "residency-conflict",
    "certification-unavailable",
    "requirement-conflict",
    "no-home-cluster",
)
CACHED = {"Cache-Control": "public, max-age=60"}


@endpoint(
    blueprint,
    "POST",
    "/route",
    name="route",
    action="route.decide",
    summary="Decide where a customer's space may live, and sign the decision",
    response=RouteAnswer,
    public=True,
    problems=(*REFUSALS, "malformed-json", "body-too-large", "unsupported-media-type"),
)
async def route(request: Request) -> Reply:
    """Decide; the body is read by the room itself, which names every wrong field at once."""
    found = contract.decide(
        request.raw,
        request.headers.get("content-type", ""),
        now=request.ports.clock.now(),
        key=_key(request.settings.decision_key),
    )
    return Reply(body=found.body, status=found.status, headers=found.headers)


@endpoint(
    blueprint,
    "GET",
    "/route",
    name="route_preview",
    action="route.decide",
    summary="Say where a customer's space may live, unsigned; lists are written with commas",
    response=RouteAnswer,
    public=True,
    problems=REFUSALS,
    query=FIELDS,
)
async def preview(request: Request) -> Reply:
    """Decide without a signature, to be cached for a minute."""
    found = contract.preview(request.query, now=request.ports.clock.now())
    return Reply(body=found.body, status=found.status, headers=found.headers)


@endpoint(
    blueprint,
    "GET",
    "/route/clusters",
    name="route_clusters",
    action="route.look",
    summary="The six clusters",
    response=dict[str, Any],
    public=True,
)
async def clusters(_request: Request) -> Reply:
    """The clusters as the rules describe them."""
    return Reply(body=lookup.clusters(tables.load()), headers=CACHED)


@endpoint(
    blueprint,
    "GET",
    "/route/rules",
    name="route_rules",
    action="route.look",
    summary="The rules in short",
    response=dict[str, Any],
    public=True,
)
async def rules(_request: Request) -> Reply:
    """All rules, without their texts."""
    return Reply(body=lookup.rule_list(tables.load()), headers=CACHED)


@endpoint(
    blueprint,
    "GET",
    "/route/rules/{rule_id}",
    name="route_rule",
    action="route.look",
    summary="One rule with its sources",
    response=dict[str, Any],
    public=True,
    problems=("not-found",),
)
async def rule(request: Request) -> Reply:
    """One rule, whole."""
    found = lookup.rule(tables.load(), request.params["rule_id"])
    if found is None:
        raise NotFoundError("there is no such rule", remedy="See: GET /api/v1/route/rules.")
    return Reply(body=found, headers=CACHED)


@endpoint(
    blueprint,
    "GET",
    "/route/coverage",
    name="route_coverage",
    action="route.look",
    summary="The answer for every country and sector",
    response=dict[str, Any],
    public=True,
)
async def coverage(request: Request) -> Reply:
    """Every place with its rule and its outcome in each sector, by the rules of today."""
    today = request.ports.clock.now().date().isoformat()
    return Reply(body=lookup.coverage(today), headers=CACHED)


@functools.cache
def _key(setting: str) -> SigningKey:
    return SigningKey.from_setting(setting)
