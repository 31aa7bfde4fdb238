"""Why a space may live where it may: the answer object, the same for every outcome.

The verdict holds numbers and masks; here they get their names, their sources and their reasons.
Each of the six clusters stands in `ranked` or in `excluded`, never in both. The words say what our
policy does and where that comes from, never that somebody complies with a law.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from geo_router import decide, rank, words
from geo_router.model import Decision, Refusal, Role

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from geo_router.model import Fired, Part, Request, Verdict
    from geo_router.tables import Tables
    from spaces.errors import FieldError

NO_IP_EVIDENCE = {"country": None, "source": "none"}
FAR_KM = 4000
"""Coordinates farther than this from the declared country's middle are worth a remark."""


def answer(
    tables: Tables,
    request: Request,
    verdict: Verdict,
    *,
    today: str,
    request_hash: str,
    degraded: int = 0,
    unsigned: Sequence[str] = (),
    ip_evidence: Mapping[str, str | None] | None = None,
) -> dict[str, object]:
    """The answer object of a decided request.

    `degraded` is the mask of clusters short of healthy zones; `unsigned` names why the answer may
    not be signed; `ip_evidence` is what is known of the caller's network, and from whom.
    """
    chosen = verdict.cluster if verdict.decision is Decision.ALLOWED else None
    return {
        "decision": str(verdict.decision),
        "refusal": None if verdict.refusal is None else str(verdict.refusal),
        "cluster": None if chosen is None else tables.clusters[chosen].id,
        "azure_region": None if chosen is None else tables.clusters[chosen].azure_region,
        "backup": None if chosen is None else _backup(tables, chosen, verdict.stages.law),
        "summary": words.summary(tables, request, verdict),
        "ranked": _ranked(tables, request, verdict),
        "excluded": _excluded(tables, request, verdict, today),
        "rules": _rules(verdict),
        "warnings": [*_warnings(tables, request, verdict, today, degraded), *unsigned],
        "obligations": _obligations(tables, request, verdict),
        "assertions": [
            {"id": c.id, "holder": c.holder, "text": c.text}
            for c in tables.conditions_of(request.asserted)
        ],
        "ip_evidence": ip_evidence or dict(NO_IP_EVIDENCE),
        "data": {"version": tables.version, "hash": tables.hash},
        "disclaimer": tables.disclaimer,
        "as_of": today,
        "request_hash": request_hash,
        "issued_at": None,
        "expires_at": None,
        "token": None,
    }


def bad_input(
    tables: Tables, refusal: Refusal, errors: Iterable[FieldError], *, today: str | None
) -> dict[str, object]:
    """The same object for a request that could not be read: nothing was decided."""
    listed = [
        {"pointer": error.pointer, "code": error.code, "message": error.message}
        for error in errors
    ]
    return {
        "decision": str(Decision.REFUSED),
        "refusal": str(refusal),
        "cluster": None,
        "azure_region": None,
        "backup": None,
        "summary": "The request cannot be read: "
        + "; ".join(f"{wrong['pointer'] or '/'} {wrong['message']}" for wrong in listed),
        "ranked": [],
        "excluded": [],
        "rules": [],
        "warnings": [],
        "obligations": [],
        "assertions": [],
        "ip_evidence": dict(NO_IP_EVIDENCE),
        "data": {"version": tables.version, "hash": tables.hash},
        "disclaimer": tables.disclaimer,
        "as_of": today,
        "request_hash": None,
        "issued_at": None,
        "expires_at": None,
        "token": None,
        "errors": listed,
    }


def _backup(tables: Tables, chosen: int, law: int) -> dict[str, object]:
    cluster = tables.clusters[chosen]
    backup = cluster.backup
    lawful = {c.country for at, c in enumerate(tables.clusters) if law >> at & 1}
    return {
        "azure_region": backup.azure_region,
        "same_country": backup.country == cluster.country,
        "in_allowed_set": backup.country in lawful,
    }


def _ranked(tables: Tables, request: Request, verdict: Verdict) -> list[dict[str, object]]:
    """The clusters that remain, in the order of choice; those not open only where one is awaited."""
    places = verdict.places
    if places is None:
        return []
    left = _still_in(verdict)
    order = [at for at in places.order if left >> at & 1]
    return [
        {
            "cluster": tables.clusters[at].id,
            "rtt_ms": places.rtt_ms[at],
            "km": places.km[at],
            "why": _why(request, verdict, at),
        }
        for at in order
    ]


def _why(request: Request, verdict: Verdict, at: int) -> list[str]:
    reasons: list[str] = []
    if verdict.home == at:
        reasons.append("home")
    as_such = all(one.part.allow >> at & 1 for one in verdict.fired)
    reasons.append("allowed" if as_such else "conditional")
    if request.pin == at:
        reasons.append("pinned")
    if not verdict.open_now >> at & 1:
        reasons.append("not-open")
    return reasons


def _excluded(
    tables: Tables, request: Request, verdict: Verdict, today: str
) -> list[dict[str, object]]:
    """The clusters that are out, by what took each away first, and what would open it."""
    held = decide.held_conditions(tables, request, today)
    can_hold = decide.every_condition(tables, today)
    billing = [one for one in verdict.evidence if one.role is Role.BILLING]
    read = [*verdict.fired, *billing]
    # Where sanctioned evidence stopped the request, no condition would open anything.
    stopped = any(one.part.refusal == decide.SANCTIONS for one in verdict.evidence)
    by_condition = set[str]() if stopped else {one.rule.id for one in read}
    out: list[dict[str, object]] = []
    still_in = _still_in(verdict)
    for at, cluster in enumerate(tables.clusters):
        if not still_in >> at & 1:
            by = _excluded_by(request, verdict, at, held)
            needs = _missing(read, at, held, can_hold) if by in by_condition else None
            out.append(
                {
                    "cluster": cluster.id,
                    "by": by,
                    "missing": _named(tables, needs) if needs else None,
                }
            )
    return out


def _named(tables: Tables, needs: set[int]) -> list[list[str]]:
    """The condition sets by name, the shortest first."""
    return sorted((sorted(tables.names(need)) for need in needs), key=_shortest_first)


def _shortest_first(names: list[str]) -> tuple[int, list[str]]:
    return len(names), names


def _still_in(verdict: Verdict) -> int:
    """The clusters that are not excluded: one that is not open counts only where it is awaited."""
    left = verdict.stages.strict
    return left & verdict.open_now if verdict.decision is Decision.ALLOWED else left


def _excluded_by(request: Request, verdict: Verdict, at: int, held: int) -> str:
    stages, bit = verdict.stages, 1 << at
    if not stages.law & bit:
        return _by_rule(verdict, at, held)
    if not stages.evidence & bit:
        return next(one.rule.id for one in verdict.evidence if one.role is Role.BILLING)
    if not stages.certification & bit:
        return "certification"
    if not stages.wishes & bit:
        return "exclude" if request.exclude & bit else "pin"
    return "placement" if stages.strict & bit else "strict_residency"


def _by_rule(verdict: Verdict, at: int, held: int) -> str:
    """The rule that closes a cluster: a refusing one first, then the first that does not open it."""
    fired = verdict.fired
    if verdict.refusal in (Refusal.SANCTIONS, Refusal.LOCALISATION):
        return next(one.rule.id for one in fired if one.part.refusal == verdict.refusal)
    for one in fired:
        if not decide.allowed(one.part, held) >> at & 1:
            return one.rule.id
    # All rules open it, and yet the law is empty: network or billing evidence stopped the request.
    return next(one.rule.id for one in verdict.evidence if one.part.refusal == decide.SANCTIONS)


def _missing(read: list[Fired], at: int, held: int, can_hold: int) -> set[int]:
    """The smallest condition masks, beside what is held, that would open a cluster; none if none."""
    needs = {0}
    for one in read:
        ways = _ways(one.part, at, can_hold)
        if ways != [0]:
            needs = _smallest({need | way & ~held for need in needs for way in ways})
    return needs - {0}


def _ways(part: Part, at: int, can_hold: int) -> list[int]:
    """The condition sets under which a part opens a cluster: {0} as such, none where it cannot."""
    if part.refusal is not None:
        return []
    if part.allow >> at & 1:
        return [0]
    return [need for need, opened in part.ways if opened >> at & 1 and need & ~can_hold == 0]


def _smallest(needs: set[int]) -> set[int]:
    """Without the sets that contain another one."""
    if len(needs) < 2:
        return needs
    return {
        need
        for need in needs
        if not any(less != need and less & need == less for less in needs)
    }


def rules_read(verdict: Verdict) -> list[Fired]:
    """The rules that count in the answer; a network country's only where it stopped the request."""
    return [
        one
        for one in (*verdict.fired, *verdict.evidence)
        if one.role is not Role.NETWORK or one.part.refusal == decide.SANCTIONS
    ]


def _rules(verdict: Verdict) -> list[dict[str, object]]:
    """Each rule once for each role, with the countries it was read for."""
    grouped: dict[tuple[str, Role], list[Fired]] = {}
    for one in rules_read(verdict):
        grouped.setdefault((one.rule.id, one.role), []).append(one)
    return [_rule(group) for group in grouped.values()]


def _rule(group: list[Fired]) -> dict[str, object]:
    first = group[0]
    rule, part = first.rule, first.part
    return {
        "id": rule.id,
        "title": rule.title,
        "role": str(first.role),
        "countries": [one.country for one in group],
        "basis": rule.basis,
        "why": part.why,
        "refuses": part.reason or None,
        "strength": part.strength,
        "confidence": part.confidence,
        "evidence": rule.evidence,
        "needs_legal_review": rule.needs_legal_review,
        "citations": list(rule.citations),
        "sources": list(rule.sources),
    }


def _warnings(
    tables: Tables, request: Request, verdict: Verdict, today: str, degraded: int
) -> list[str]:
    country, rules = request.country, [one.rule for one in verdict.fired]
    remarks = {
        "subdivision-recommended": country in tables.divided and request.subdivision is None,
        "rule-review-overdue": any(
            r.review_by is not None and r.review_by < today for r in rules
        ),
        "low-confidence-rule": any(one.part.confidence == "low" for one in verdict.fired),
        "ip-country-differs": request.network not in (None, country),
        "coordinates-far-from-country": _is_far(tables, request),
        "degraded-nearest": _degraded_nearest(verdict, degraded),
        "history-incomplete": any(
            r.documented_from is not None and today < r.documented_from for r in rules
        ),
    }
    return [name for name, holds in remarks.items() if holds]


def _is_far(tables: Tables, request: Request) -> bool:
    if request.coordinates is None:
        return False
    country = tables.countries[request.country]
    middle = rank.vector(country.lat, country.lon)
    there = rank.vector(*request.coordinates)
    return rank.great_circle_km(middle, there, tables.model.radius_km) > FAR_KM


def _degraded_nearest(verdict: Verdict, degraded: int) -> bool:
    """Whether the first in order would have been one that is short of healthy zones."""
    if verdict.places is None:
        return False
    left = verdict.stages.strict
    return bool(degraded >> next(at for at in verdict.places.order if left >> at & 1) & 1)


def _obligations(tables: Tables, request: Request, verdict: Verdict) -> list[dict[str, str]]:
    texts = {
        flag: tables.flags[flag][0]
        for one in verdict.fired
        for flag in one.rule.flags
        if one.country in (tables.flags[flag][1] or (one.country,))
    }
    texts |= {kind: tables.data_kinds[kind] for kind in request.data_kinds}
    return [{"id": name, "text": text} for name, text in texts.items()]
