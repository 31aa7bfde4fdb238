"""The router's doors on the Functions host: a question, its preview, the rules, the daily review."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import azure.functions as func

from geo_router import contract, evidence, keyset, lookup, reviews, tables
from geo_router.reading import FIELDS
from geo_router.signed import SigningKey
from geo_router.wire import RouteAnswer, RouteRequest
from spaces import callers
from spaces.errors import NotFoundError
from spaces.http import Reply, Request, endpoint
from spaces.wiring import ports

if TYPE_CHECKING:
    from geo_router.model import Evidence

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
    body=RouteRequest,
    response=RouteAnswer,
    public=True,
    idempotent=True,
    key_optional=True,
    reads_itself=True,
    problems=(*REFUSALS, "malformed-json", "body-too-large", "unsupported-media-type"),
)
async def route(request: Request) -> Reply:
    """Decide; the body is read by the room itself, which names every wrong field at once."""
    if request.query:
        raise contract.not_a_request(
            "a query parameter is not known", "All fields stand in the body."
        )
    found = contract.decide(
        request.raw,
        request.headers.get("content-type", ""),
        now=request.ports.clock.now(),
        key=_key(request.settings.decision_key),
        evidence=_evidence(request),
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
    reads_itself=True,
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
    "/route/keys",
    name="route_keys",
    action="route.look",
    summary="The public keys that decisions are signed with, as a JSON Web Key Set",
    response=keyset.KeySet,
    public=True,
)
async def keys(request: Request) -> Reply:
    """Whoever verifies a token needs these, and no secret."""
    public = _key(request.settings.decision_key).public
    return Reply(body=keyset.published(public), headers=CACHED)


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


@blueprint.function_name("route_review_spaces")
@blueprint.timer_trigger(arg_name="timer", schedule="40 */10 * * * *")
async def on_review(timer: func.TimerRequest) -> None:
    """Decide all spaces again once a day, and soon after the rules have changed.

    Most firings read one row and end: the edition and the day are done.
    """
    del timer
    await reviews.run(ports())


@endpoint(
    blueprint,
    "GET",
    "/route/reviews",
    name="route_reviews",
    action="route.review",
    summary="Spaces whose place is not the one that a new request would get",
    response=reviews.ReviewList,
)
async def list_reviews(request: Request) -> Reply:
    """What the last review of each space found, where it found anything."""
    return Reply(body=await reviews.listed(request.ports))


@endpoint(
    blueprint,
    "GET",
    "/route/requests",
    name="route_requests",
    action="route.review",
    summary="The requests that spaces were opened on, to try a change of the rules",
    response=reviews.StoredList,
)
async def list_requests(request: Request) -> Reply:
    """Every space that holds data, with its stored request."""
    return Reply(body=await reviews.stored(request.ports))


def _evidence(request: Request) -> Evidence:
    """What the network says: of a stranger by our own proxy, of a known caller by what it tells.

    A stranger does not choose what speaks against them; a known caller asks for somebody else.
    """
    known = request.principal.is_known
    address = (
        callers.told_address(request.headers)
        if known
        else callers.address_of(request.headers, hops=request.settings.forwarded_hops)
    )
    return evidence.look_up(request.settings.ip_database, address, outranks=not known)


@functools.cache
def _key(setting: str) -> SigningKey:
    return SigningKey.from_setting(setting)
