"""The sentence at the head of an answer.

It says what our policy does and by which rule, never that somebody complies with a law.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from geo_router.model import Decision, Refusal

if TYPE_CHECKING:
    from geo_router.model import Request, Verdict
    from geo_router.tables import Tables


def summary(tables: Tables, request: Request, verdict: Verdict) -> str:
    """One or two sentences for a person."""
    sector = "" if request.sector == "general" else f", sector {request.sector}"
    who = f"a customer established in {tables.countries[request.country].name}{sector}"
    match verdict.refusal:
        case None | Refusal.NO_CAPACITY:
            return _placed(tables, verdict, who)
        case Refusal.SANCTIONS | Refusal.LOCALISATION:
            return _forbidden(verdict, who)
        case _:
            return _FORMS[verdict.refusal].format(
                who=who,
                rules=", ".join(dict.fromkeys(one.rule.id for one in verdict.fired)),
                certifications=", ".join(request.certifications),
            )


_FORMS = {
    Refusal.CONDITION_REQUIRED: (
        "Our policy opens a cluster for {who} only when named conditions hold (by {rules})."
    ),
    Refusal.RESIDENCY_CONFLICT: (
        "Our policy opens no cluster for {who}: the rules {rules} leave none in common."
    ),
    Refusal.CERTIFICATION_UNAVAILABLE: (
        "No cluster that our policy opens for {who} carries all of: {certifications}."
    ),
    Refusal.REQUIREMENT_CONFLICT: (
        "The wishes (pin, exclude) leave no cluster that our policy opens for {who}."
    ),
    Refusal.NO_HOME_CLUSTER: (
        "Strict residency was asked for, and no home cluster is left for {who}."
    ),
    Refusal.LOCATION_CONFLICT: (
        "The billing or network country cannot be reconciled with {who}: a person looks at it."
    ),
}


def _placed(tables: Tables, verdict: Verdict, who: str) -> str:
    cluster = tables.clusters[verdict.cluster or 0]
    first = verdict.fired[0]
    by = f"rule {first.rule.id}, {first.part.confidence} confidence"
    if verdict.decision is Decision.QUEUED:
        return (
            f"Our policy allows the cluster {cluster.name} for {who}, "
            f"but it takes no new spaces now ({by})."
        )
    way = "home of" if verdict.home == verdict.cluster else "the first open one for"
    return f"Our policy allows the cluster {cluster.name}, {way} {who} ({by})."


def _forbidden(verdict: Verdict, who: str) -> str:
    refusing = [one for one in verdict.fired if one.part.refusal == verdict.refusal]
    one = min(refusing, key=lambda found: found.part.confidence == "low")
    by = f"(rule {one.rule.id}, {one.part.confidence} confidence)"
    if verdict.decision is Decision.NEEDS_REVIEW:
        return (
            f"Our policy gives {who} no place before a person has looked: {one.part.reason} {by}. "
            "Nobody is told that the law forbids it on a guess."
        )
    return f"Our policy refuses {who}: {one.part.reason} {by}."
