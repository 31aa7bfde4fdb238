"""Decide where a customer may live: lawful first, then near.

Pure: no clock, no file, no network; the rules, the day and the state of the clusters come in. The
steps are read from top to bottom in `decide`, and each can only take clusters away; the order is
that of `semantics` in rules/residency_rules.yaml. Standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from geo_router import rank
from geo_router.model import (
    COUNTED_STATUS,
    Decision,
    Fired,
    Places,
    Refusal,
    Role,
    Stages,
    Verdict,
)

if TYPE_CHECKING:
    from geo_router.model import Part, Request, Rule
    from geo_router.tables import Tables

SANCTIONS = "sanctions"

type Outcome = tuple[Decision, Refusal | None]

_NOTHING = Stages()
_ALLOWED: Outcome = (Decision.ALLOWED, None)


def decide(
    tables: Tables, request: Request, *, today: str, open_now: int, metric: str = "rtt"
) -> Verdict:
    """The verdict on a checked request, by the rules as of `today`.

    `open_now` is the mask of the clusters that take new spaces at this moment.
    """
    fired = law_of(tables, request, today)
    evidence = evidence_of(tables, request, today)
    home = _common_home(fired)
    stages, places, chosen = _NOTHING, None, None
    outcome = _by_law(fired) or _by_evidence(evidence)
    if outcome is None:
        held = held_conditions(tables, request, today)
        law = _lawful(tables, fired, held)
        billed = _billed(evidence, held) if evidence else law
        stages = _narrowed(tables, request, law, law & billed, home)
        outcome = None if stages.strict else _emptied(tables, fired, stages, today)
    if outcome is None:
        places = _places(tables, request, stages.strict, home, metric)
        chosen, outcome = _first_open(request, stages.strict, home, places.order, open_now)
    decision, refusal = outcome
    return Verdict(decision, refusal, chosen, fired, evidence, stages, home, places, open_now)


def law_of(tables: Tables, request: Request, today: str) -> tuple[Fired, ...]:
    """The rules that make the law: of the place of establishment, then of each data subject country."""
    country, sector = tables.countries[request.country], request.sector
    rule = country.rule
    if request.subdivision is not None:
        rule = tables.subdivisions.get(request.subdivision, rule)
    if rule is country.rule and not rule.older:
        first = country.fired[sector]
    else:
        first = Fired(rule, part_at(rule, sector, today), Role.ESTABLISHMENT, country.code)
    if not request.subjects:
        return (first,)
    others = [
        _read(tables, code, sector, today, Role.DATA_SUBJECTS)
        for code in request.subjects
        if code != country.code or rule is not country.rule
    ]
    return (first, *others)


def evidence_of(tables: Tables, request: Request, today: str) -> tuple[Fired, ...]:
    """The rules of the billing and the network country, where these are not the declared one."""
    billing, network = request.billing, request.network
    if billing is None and network is None:
        return ()
    return tuple(
        _read(tables, code, request.sector, today, role)
        for code, role in ((billing, Role.BILLING), (network, Role.NETWORK))
        if code is not None and code != request.country
    )


def held_conditions(tables: Tables, request: Request, today: str) -> int:
    """What holds: defaults, reviewed facts of the vendor and what is asserted, less what is withdrawn.

    A condition cannot hold before the day it exists.
    """
    held = tables.default_conditions | request.asserted
    for since, fact in tables.fact_dates:
        if today >= since:
            held |= fact
    for since, condition in tables.dated:
        if today < since:
            held &= ~condition
    return held & ~request.withdrawn


def part_at(rule: Rule, sector: str, today: str) -> Part:
    """The part of a rule that counts for a sector on a day."""
    for text in rule.older:
        if text.until is not None and today < text.until:
            return text.parts[sector]
    return rule.now[sector]


def allowed(part: Part, held: int) -> int:
    """The clusters that a part opens: as such, or because all conditions of one way hold."""
    mask = part.allow
    for need, opened in part.ways:
        if need & held == need:
            mask |= opened
    return mask


def possible(tables: Tables, part: Part, today: str) -> int:
    """The clusters that a part could open, were all conditions that exist on that day to hold."""
    return allowed(part, every_condition(tables, today))


def every_condition(tables: Tables, today: str) -> int:
    """The conditions that can hold at all on a day."""
    mask = (1 << len(tables.conditions)) - 1
    for since, condition in tables.dated:
        if today < since:
            mask &= ~condition
    return mask


def certified(tables: Tables, request: Request) -> int:
    """The clusters that carry every certification asked for."""
    mask = tables.every_cluster
    for name in request.certifications:
        offering = tables.offerings[name]
        counts = offering.status in COUNTED_STATUS or request.superseded_counts
        mask &= offering.clusters if counts else 0
    return mask


def _read(tables: Tables, code: str, sector: str, today: str, role: Role) -> Fired:
    rule = tables.countries[code].rule
    return Fired(rule, part_at(rule, sector, today), role, code)


def _common_home(fired: tuple[Fired, ...]) -> int | None:
    """The home cluster, where every rule names the same one."""
    home = fired[0].rule.home
    for one in fired:
        if one.rule.home != home:
            return None
    return home


def _by_law(fired: tuple[Fired, ...]) -> Outcome | None:
    """The refusal of the rules; sanctions outrank all others.

    Nobody is told "the law forbids it" on a guess: where all are of low confidence, a person looks.
    """
    refuses = is_sure = False
    for one in fired:
        refusal = one.part.refusal
        if refusal == SANCTIONS:
            return Decision.REFUSED, Refusal.SANCTIONS
        if refusal is not None:
            refuses = True
            is_sure = is_sure or one.part.confidence != "low"
    if not refuses:
        return None
    return Decision.REFUSED if is_sure else Decision.NEEDS_REVIEW, Refusal.LOCALISATION


def _by_evidence(evidence: tuple[Fired, ...]) -> Outcome | None:
    """A billing or network country under sanctions: a person looks."""
    for one in evidence:
        if one.part.refusal == SANCTIONS:
            return Decision.NEEDS_REVIEW, Refusal.LOCATION_CONFLICT
    return None


def _lawful(tables: Tables, fired: tuple[Fired, ...], held: int) -> int:
    mask = tables.every_cluster
    for one in fired:
        mask &= allowed(one.part, held)
    return mask


def _billed(evidence: tuple[Fired, ...], held: int) -> int:
    """What the billing country opens: nothing where it refuses; all where there is none beside."""
    for one in evidence:
        if one.role is Role.BILLING:
            return allowed(one.part, held)
    return -1


def _narrowed(
    tables: Tables, request: Request, law: int, billed: int, home: int | None
) -> Stages:
    """The set after each step, each within the one before."""
    left = billed
    if request.certifications:
        left &= certified(tables, request)
    by_certificate = left
    left &= ~request.exclude
    if request.pin is not None:
        left &= 1 << request.pin
    by_wish = left
    if request.strict:
        left &= 0 if home is None else 1 << home
    return Stages(law, billed, by_certificate, by_wish, left)


def _emptied(tables: Tables, fired: tuple[Fired, ...], stages: Stages, today: str) -> Outcome:
    """The step that took the last cluster away."""
    if not stages.law:
        could = tables.every_cluster
        for one in fired:
            could &= possible(tables, one.part, today)
        kind = Refusal.CONDITION_REQUIRED if could else Refusal.RESIDENCY_CONFLICT
    elif not stages.evidence:
        return Decision.NEEDS_REVIEW, Refusal.LOCATION_CONFLICT
    elif not stages.certification:
        kind = Refusal.CERTIFICATION_UNAVAILABLE
    elif not stages.wishes:
        kind = Refusal.REQUIREMENT_CONFLICT
    else:
        kind = Refusal.NO_HOME_CLUSTER
    return Decision.REFUSED, kind


def _places(
    tables: Tables, request: Request, among: int, home: int | None, metric: str
) -> Places:
    """The clusters in the order of choice: home first unless latency is preferred, then the nearest."""
    country = tables.countries[request.country]
    places = country.near if metric == "rtt" else country.near_by_km
    if request.coordinates is not None:
        lat, lon = request.coordinates
        places = rank.places_from(tables.model, lat, lon, metric=metric)
    if request.measured and metric == "rtt":
        measured = rank.measured_places(
            tables.model.names, places, request.measured, among=among
        )
        places = measured or places
    if home is None or request.by_latency or not among >> home & 1 or places.order[0] == home:
        return places
    return Places((home, *[at for at in places.order if at != home]), places.rtt_ms, places.km)


def _first_open(
    request: Request, left: int, home: int | None, order: tuple[int, ...], open_now: int
) -> tuple[int, Outcome]:
    """The first cluster in order that takes new spaces; or the first, and a place in its queue.

    A home is given up only by the customer's word.
    """
    first = _first(order, left)
    if open_now >> first & 1:
        return first, _ALLOWED
    has_home = home is not None and left >> home & 1
    gives_up = request.by_latency or request.may_fall_back  # strict has left nothing to move to
    if left & open_now and (gives_up or not has_home):
        return _first(order, left & open_now), _ALLOWED
    return first, (Decision.QUEUED, Refusal.NO_CAPACITY)


def _first(order: tuple[int, ...], among: int) -> int:
    for at in order:
        if among >> at & 1:
            return at
    raise ValueError("no cluster is left to choose from")
