"""What must hold of the rules before anybody is routed by them.

Shapes and unknown fields are refused when the files are read; here is what shapes cannot say.
An error stops a landing; a warning asks a person. Every check has a test that breaks it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Literal

from geo_router.reading import read_date

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geo_router.rulebook.sources import Changes, FormerText, Rule, SectorPart, Sources

OVERDUE = timedelta(days=90)
"""So long after its `review_by` a rule still decides with a warning; then it is an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong (error) or wants a person (warning), and where."""

    level: Literal["error", "warning"]
    where: str
    code: str
    message: str


def lint(given: Sources, changes: Changes, *, data_hash: str, today: date) -> list[Finding]:
    """All findings, errors first."""
    found = [
        *_countries(given),
        *_clusters(given),
        *_conditions(given),
        *(finding for rule in given.rules.rules for finding in _rule(given, rule, today)),
        *_offerings(given),
        *_changes(given, changes, data_hash),
    ]
    return sorted(found, key=lambda finding: (finding.level, finding.where, finding.code))


def _error(where: str, code: str, message: str) -> Finding:
    return Finding(level="error", where=where, code=code, message=message)


def _warning(where: str, code: str, message: str) -> Finding:
    return Finding(level="warning", where=where, code=code, message=message)


def _countries(given: Sources) -> Iterator[Finding]:
    codes = Counter(code for rule in given.rules.rules for code in rule.countries)
    listed = {country.iso2 for country in given.countries}
    for code in sorted(listed - codes.keys()):
        yield _error(code, "country-without-rule", "this code stands in no rule")
    for code in sorted(codes.keys() - listed):
        yield _error(code, "unknown-country", "this code is not in countries.csv")
    for code in sorted(code for code, times in codes.items() if times > 1):
        yield _error(code, "country-twice", "this code stands in more than one rule")
    ids = Counter(rule.id for rule in given.rules.rules)
    for name in sorted(name for name, times in ids.items() if times > 1):
        yield _error(name, "rule-twice", "two rules have this id")
    named = {
        **given.rules.subdivisions,
        **given.rules.extra_codes,
        "": given.rules.default_rule,
    }
    for code, rule in sorted(named.items()):
        if rule not in ids:
            yield _error(code or "default_rule", "unknown-rule", f"there is no rule {rule}")
    for code in sorted(given.rules.extra_codes.keys() ^ given.extra.codes.keys()):
        yield _error(code, "extra-code", "an extra code needs both a rule and a point")
    for alias, code in sorted(given.extra.aliases.items()):
        if alias in codes or code not in codes:
            yield _error(alias, "country-alias", f"{alias} cannot stand for {code}")


def _clusters(given: Sources) -> Iterator[Finding]:
    names = Counter(
        name for cluster in given.clusters.clusters for name in (cluster.id, *cluster.aliases)
    )
    for name in sorted(name for name, times in names.items() if times > 1):
        yield _error(name, "alias-twice", "two clusters answer to this name")
    for cluster in given.clusters.clusters:
        if not cluster.backup_region.same_country:
            yield _error(cluster.id, "pair-abroad", "backups would leave the country")
        if cluster.availability_zones < 3:
            yield _error(cluster.id, "too-few-zones", "a cluster needs three zones")


def _conditions(given: Sources) -> Iterator[Finding]:
    for fact in given.facts.facts:
        condition = given.rules.conditions.get(fact.condition)
        if condition is None:
            yield _error(fact.condition, "unknown-condition", "no such condition to be a fact")
        elif condition.holder == "customer":
            yield _error(fact.condition, "foreign-fact", "only the customer can say so")
    flags = {flag for rule in given.rules.rules for flag in rule.flags}
    for flag in sorted(flags ^ given.obligations.flags.keys()):
        yield _error(flag, "flag", "a flag needs a rule that raises it and a text")


def _rule(given: Sources, rule: Rule, today: date) -> Iterator[Finding]:
    yield from _texts(given, rule)
    yield from _proof(given, rule)
    yield from _dates(rule, today)


def _texts(given: Sources, rule: Rule) -> Iterator[Finding]:
    """The rule, its sector parts and its former texts: what they open and what they say."""
    for sector in sorted(rule.sectors.keys() - (set(given.rules.sectors) - {"general"})):
        yield _error(rule.id, "unknown-sector", f"there is no sector {sector} to be replaced")
    parts: list[tuple[str, Rule | SectorPart | FormerText]] = [(rule.id, rule)]
    parts += [(f"{rule.id}/{sector}", part) for sector, part in rule.sectors.items()]
    parts += [(f"{rule.id}/until {text.until}", text) for text in rule.history]
    for where, part in parts:
        yield from _part(given, rule, where, part)


def _part(
    given: Sources, rule: Rule, where: str, part: Rule | SectorPart | FormerText
) -> Iterator[Finding]:
    opened = [*part.allow, *part.conditional]
    for name in sorted(set(opened) - set(given.rules.clusters)):
        yield _error(where, "unknown-cluster", f"there is no cluster {name}")
    used = {c for ways in part.conditional.values() for way in ways for c in way}
    for name in sorted(used - given.rules.conditions.keys()):
        yield _error(where, "unknown-condition", f"there is no condition {name}")
    for name in sorted(set(part.allow) & part.conditional.keys()):
        yield _error(where, "cluster-twice", f"{name} is open as such and under conditions")
    if any(not ways or not all(ways) for ways in part.conditional.values()):
        yield _error(where, "empty-way", "a condition list is empty")
    if part.refuse is not None and opened:
        yield _error(where, "refuses-and-opens", "a part that refuses opens nothing")
    if part.refuse is None and not opened:
        yield _error(where, "says-nothing", "neither opens a cluster nor refuses")
    if rule.home is not None and opened and rule.home not in opened:
        yield _error(where, "home-closed", f"the home {rule.home} is not opened here")


def _proof(given: Sources, rule: Rule) -> Iterator[Finding]:
    read = any(citation.read for citation in rule.citations)
    if not rule.citations:
        yield _error(rule.id, "no-source", "a rule needs a source")
    if any(not citation.url.startswith("https://") for citation in rule.citations):
        yield _error(rule.id, "bad-source", "a source is an https address")
    if (rule.evidence == "page-read") != read:
        yield _error(rule.id, "evidence", "evidence and the read marks of the sources differ")
    if rule.confidence == "high" and not read:
        yield _error(rule.id, "high-unread", "high confidence needs a page that was read")
    for sector, part in rule.sectors.items():
        if part.confidence == "high" and not read:
            yield _warning(
                f"{rule.id}/{sector}", "high-unread", "high confidence, and no page was read"
            )
    for strength in [rule.strength, *(part.strength for part in rule.sectors.values())]:
        if strength not in given.rules.strength_values:
            yield _error(rule.id, "unknown-strength", f"there is no strength {strength}")


def _dates(rule: Rule, today: date) -> Iterator[Finding]:
    days = [rule.effective_from, rule.effective_to, rule.review_by, rule.reviewed, rule.as_of]
    untils = [text.until for text in rule.history]
    if any(day is not None and read_date(day) is None for day in [*days, *untils]):
        yield _error(rule.id, "bad-date", "a date is written YYYY-MM-DD")
        return
    if rule.effective_from and rule.effective_to and rule.effective_from >= rule.effective_to:
        yield _error(rule.id, "period", "effective_from is not before effective_to")
    if untils != sorted(set(untils)):
        yield _error(
            rule.id, "history", "former texts stand oldest first, each with its own day"
        )
    if untils and rule.effective_from and rule.effective_from < untils[-1]:
        yield _error(rule.id, "history", "a former text overlaps with the present one")
    if rule.review_by is not None:
        late = today - date.fromisoformat(rule.review_by)
        if late > OVERDUE:
            yield _error(rule.id, "review-overdue", f"review was due on {rule.review_by}")
        elif late > timedelta(0):
            yield _warning(rule.id, "review-overdue", f"review was due on {rule.review_by}")


def _offerings(given: Sources) -> Iterator[Finding]:
    entries = given.offerings.offerings
    if given.offerings.listed != len(entries):
        yield _error(
            "offerings", "count", f"{given.offerings.listed} listed, {len(entries)} there"
        )
    for name, times in sorted(Counter(entry.id for entry in entries).items()):
        if times > 1:
            yield _error(name, "offering-twice", "two offerings have this id")
    for entry in entries:
        if entry.scope not in given.offerings.scopes:
            yield _error(entry.id, "unknown-scope", f"there is no scope {entry.scope}")
        if not entry.url.startswith("https://"):
            yield _error(entry.id, "no-source", "an offering needs an https source")
        for name in sorted(set(entry.clusters) - set(given.rules.clusters)):
            yield _error(entry.id, "unknown-cluster", f"there is no cluster {name}")


def _changes(given: Sources, changes: Changes, data_hash: str) -> Iterator[Finding]:
    """Four eyes: every edition is entered, and somebody else than its author looks at it."""
    newest = changes.changes[0] if changes.changes else None
    if newest is None or newest.data_hash != data_hash:
        yield _error("CHANGES.yaml", "no-entry", f"no entry for the data hash {data_hash}")
    elif newest.version != given.rules.version:
        yield _error("CHANGES.yaml", "version", f"the rules say version {given.rules.version}")
    for change in changes.changes:
        if change.reviewer == change.author:
            yield _error(change.version, "one-pair-of-eyes", "author and reviewer are the same")
    if newest is not None and newest.reviewer is None:
        yield _warning(newest.version, "not-reviewed", "nobody has reviewed this edition yet")
    reviewed = {name for change in changes.changes for name in change.legal_reviews}
    for rule in given.rules.rules:
        if not rule.needs_legal_review and rule.id not in reviewed:
            yield _error(rule.id, "no-legal-review", "no legal review of this rule is named")
    versions = {
        "clusters.yaml": given.clusters.version,
        "compliance_offerings.yaml": given.offerings.version,
        "extra_codes.yaml": given.extra.version,
        "vendor_facts.yaml": given.facts.version,
        "obligations.yaml": given.obligations.version,
    }
    for file, version in versions.items():
        if version != given.rules.version:
            yield _error(
                file, "version", f"version {version}, the rules say {given.rules.version}"
            )
