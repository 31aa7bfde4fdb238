"""The answer object as the routing page shows it: clusters, rules, and the ways to another answer.

Nothing is decided here. What would have to change for a cluster is read off the answer, and tried
by a link: the same question with that one thing changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from geo_router import texts
from geo_router.model import COUNTED_STATUS, Decision, Refusal, Role
from geo_router.pages import phrases, worldmap
from geo_router.pages.worldmap import Map

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geo_router.tables import Cluster, Condition, Tables

PAGE, API = "/console/routing", "/api/v1/route"
_DEFAULTS: Mapping[str, object] = {
    "sector": "general",
    "prefer": "residency",
    "strict_residency": False,
    "allow_fallback": False,
    "accept_superseded": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that would have to be otherwise, and the same question with it changed."""

    text: str
    parts: tuple[str, ...] = ()
    try_it: str | None = None
    link: str = "Ask again without it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One cluster in the table."""

    order: str
    kind: str
    name: str
    place: str
    region: str
    near: str
    reasons: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """One rule that counted."""

    id: str
    title: str
    read_for: str
    why: str
    refuses: str
    standing: tuple[tuple[str, str], ...]
    sources: tuple[tuple[str, str], ...]
    """(citation, address); the address is blank where it is none of the web."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A decided request as a page."""

    kind: str
    shape: str
    title: str
    summary: str
    place: tuple[tuple[str, str], ...]
    origin: tuple[tuple[str, str], ...]
    map: Map
    rows: tuple[Row, ...]
    rules: tuple[RuleView, ...]
    warnings: tuple[str, ...]
    obligations: tuple[str, ...]
    declared: tuple[str, ...]
    address: str
    api: str
    request: str
    disclaimer: str


def shown(rules: Tables, found: Mapping[str, Any], form: Mapping[str, object]) -> Shown:
    """The page of an answer to a request that could be read; `form` is its canonical form."""
    shape, title = phrases.DECISIONS[Decision(found["decision"])]
    if found["refusal"] is not None:
        title += f": {phrases.REFUSALS[Refusal(found['refusal'])]}"
    ranked = {entry["cluster"]: entry for entry in found["ranked"]}
    excluded = {entry["cluster"]: entry for entry in found["excluded"]}
    clusters = {cluster.id: cluster for cluster in rules.clusters}
    address = _query(form)
    return Shown(
        kind=found["decision"],
        shape=shape,
        title=title,
        summary=found["summary"],
        place=_place(rules, found),
        origin=_origin(found),
        map=_map(rules, found, form),
        rows=(
            *[
                _ranked_row(clusters[name], entry, at, found["cluster"])
                for at, (name, entry) in enumerate(ranked.items(), 1)
            ],
            *[
                _excluded_row(rules, found, form, clusters[name], entry)
                for name, entry in excluded.items()
            ],
        ),
        rules=tuple(_rule(rules, entry) for entry in found["rules"]),
        warnings=tuple(phrases.said(phrases.WARNINGS, name) for name in found["warnings"]),
        obligations=tuple(duty["text"] for duty in found["obligations"]),
        declared=tuple(
            f"{one['text']} (said by the {one['holder']})" for one in found["assertions"]
        ),
        address=f"{PAGE}?{address}",
        api=f"{API}?{address}",
        request=json.dumps(form, indent=1, ensure_ascii=False),
        disclaimer=found["disclaimer"],
    )


def _query(form: Mapping[str, object]) -> str:
    """A canonical request as the shortest address."""
    short = {name: value for name, value in form.items() if _DEFAULTS.get(name) != value}
    return urlencode(texts.query_of(short), safe=",:=")


def _place(rules: Tables, found: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Where the space would live, or what it waits for."""
    if found["decision"] == Decision.QUEUED:
        awaited = rules.clusters[rules.cluster_numbers[found["ranked"][0]["cluster"]]]
        return (("Waits for", f"{awaited.name}, {awaited.place}"),)
    if found["cluster"] is None:
        return ()
    cluster = rules.clusters[rules.cluster_numbers[found["cluster"]]]
    backup = found["backup"]
    where = "the same country" if backup["same_country"] else "another country"
    law = "within" if backup["in_allowed_set"] else "outside"
    return (
        ("Cluster", f"{cluster.name}, {cluster.place}"),
        ("Azure region", found["azure_region"]),
        ("Backups", f"{backup['azure_region']}: {where}, {law} what the rules allow"),
    )


def _origin(found: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """By which rules, on which day, to which request."""
    data = found["data"]
    return (
        ("Rules", f"version {data['version']}, as of {found['as_of']}"),
        ("Data", data["hash"]),
        ("Request", found["request_hash"]),
    )


def _map(rules: Tables, found: Mapping[str, Any], form: Mapping[str, object]) -> Map:
    country = rules.countries[str(form["country"])]
    lat, lon = cast("list[float]", form.get("coordinates", [country.lat, country.lon]))
    return worldmap.draw(
        rules.clusters,
        [entry["cluster"] for entry in found["ranked"]],
        chosen=found["cluster"],
        lat=lat,
        lon=lon,
        who=country.name,
    )


def _ranked_row(
    cluster: Cluster, entry: Mapping[str, Any], order: int, chosen: str | None
) -> Row:
    return Row(
        order=str(order),
        kind="chosen" if cluster.id == chosen else "other",
        name=cluster.name,
        place=cluster.place,
        region=cluster.azure_region,
        near=f"{entry['rtt_ms']} ms · {entry['km']} km",
        reasons=phrases.begun(
            "; ".join(phrases.said(phrases.REASONS, name) for name in entry["why"])
        ),
        changes=(),
    )


def _excluded_row(
    rules: Tables,
    found: Mapping[str, Any],
    form: Mapping[str, object],
    cluster: Cluster,
    entry: Mapping[str, Any],
) -> Row:
    by, missing = entry["by"], entry["missing"]
    fired = next((rule for rule in found["rules"] if rule["id"] == by), None)
    if fired is not None:
        reason = f"rule {by} does not open it, read for {_read_for(rules, fired)}"
        changes = _by_rule(rules, form, fired, missing)
    else:
        reason, changes = _by_wish(rules, form, cluster, by)
    return Row(
        order="",
        kind="excluded",
        name=cluster.name,
        place=cluster.place,
        region=cluster.azure_region,
        near="",
        reasons=phrases.begun(reason),
        changes=changes,
    )


def _by_rule(
    rules: Tables,
    form: Mapping[str, object],
    fired: Mapping[str, Any],
    missing: list[list[str]] | None,
) -> tuple[Change, ...]:
    """The ways in which the rules would open a cluster; none where they refuse it."""
    if missing is None:
        refuses = f"The rule refuses: {fired['refuses']}. " if fired["refuses"] else ""
        return (Change(text=f"{refuses}No condition that can be declared opens it."),)
    known = {condition.id: condition for condition in rules.conditions}
    return tuple(
        Change(
            text="The rules open it when this holds:"
            if len(names) == 1
            else "The rules open it when all of this holds:",
            parts=tuple(_condition(known[name]) for name in names),
            link="Ask again as if it held",
            try_it=_changed(form, **_holding(form, [known[name] for name in names])),
        )
        for names in missing
    )


def _condition(condition: Condition) -> str:
    since = condition.effective_from
    can = f", possible since {since}" if since else ""
    return f"{condition.text} ({condition.id}, said by the {condition.holder}{can})"


def _holding(form: Mapping[str, object], needed: list[Condition]) -> dict[str, object]:
    """Both lists of conditions as they would be where the needed ones held."""
    names = {condition.id for condition in needed}
    withdrawn = cast("list[str]", form["withdrawn"])
    declared = cast("list[str]", form["assertions"])
    more = {condition.id for condition in needed if not condition.default}
    return {
        "assertions": sorted({*declared, *more}),
        "withdrawn": [name for name in withdrawn if name not in names],
    }


def _by_wish(
    rules: Tables, form: Mapping[str, object], cluster: Cluster, by: str
) -> tuple[str, tuple[Change, ...]]:
    """What the request itself, or the state of the cluster, has against it."""
    match by:
        case "certification":
            return "a certification asked for does not count here", (
                *_lacking(rules, form, cluster),
            )
        case "exclude":
            kept = [name for name in cast("list[str]", form["exclude"]) if name != cluster.id]
            change = Change(
                text="The wish to leave it out.", try_it=_changed(form, exclude=kept)
            )
            return "left out by wish", (change,)
        case "pin":
            pinned = rules.clusters[rules.cluster_numbers[str(form["pin"])]].name
            change = Change(
                text=f"The wish for {pinned} only.", try_it=_changed(form, pin=None)
            )
            return "another cluster was asked for", (change,)
        case "strict_residency":
            change = Change(
                text="The wish for the home cluster only.",
                try_it=_changed(form, strict_residency=False),
            )
            return "not the home of this customer", (change,)
        case "placement":
            return "takes no new spaces now", (
                Change(text="It must be open for new spaces again; the rules open it."),
            )
        case _:
            return by, ()


def _lacking(rules: Tables, form: Mapping[str, object], cluster: Cluster) -> tuple[Change, ...]:
    """The certifications asked for that do not count for a cluster, each with its way out."""
    asked = cast("list[str]", form["certifications"])
    bit = 1 << rules.cluster_numbers[cluster.id]
    changes: list[Change] = []
    for name in asked:
        offering = rules.offerings[name]
        rest = [other for other in asked if other != name]
        if not offering.clusters & bit:
            changes.append(
                Change(
                    text=f"{offering.title} ({name}) is not carried here: "
                    f"{rules.scopes[offering.scope]}.",
                    try_it=_changed(form, certifications=rest),
                )
            )
        elif offering.status not in COUNTED_STATUS and not form["accept_superseded"]:
            changes.append(
                Change(
                    text=f"{offering.title} ({name}) is {offering.status}: it counts only where "
                    "that is accepted.",
                    link="Ask again with that accepted",
                    try_it=_changed(form, accept_superseded=True),
                )
            )
    return tuple(changes)


def _changed(form: Mapping[str, object], **changes: object) -> str:
    """The address of the same question with something changed; None takes a field out."""
    changed = {name: value for name, value in {**form, **changes}.items() if value is not None}
    return f"{PAGE}?{_query(changed)}"


def _rule(rules: Tables, entry: Mapping[str, Any]) -> RuleView:
    review = (
        "not yet reviewed by a lawyer"
        if entry["needs_legal_review"]
        else "reviewed by a lawyer"
    )
    return RuleView(
        id=entry["id"],
        title=entry["title"],
        read_for=f"Read for {_read_for(rules, entry)}",
        why=entry["why"],
        refuses=entry["refuses"] or "",
        standing=(
            ("Basis", phrases.said(phrases.BASES, entry["basis"])),
            ("Strength", entry["strength"]),
            ("Confidence", entry["confidence"]),
            ("Evidence", phrases.said(phrases.EVIDENCE, entry["evidence"])),
            ("Legal review", review),
        ),
        sources=tuple(
            (citation, source if source.startswith(("https://", "http://")) else "")
            for citation, source in zip(entry["citations"], entry["sources"], strict=True)
        ),
    )


def _read_for(rules: Tables, entry: Mapping[str, Any]) -> str:
    names = ", ".join(rules.countries[code].name for code in entry["countries"])
    return f"{phrases.ROLES[Role(entry['role'])]} ({names})"
