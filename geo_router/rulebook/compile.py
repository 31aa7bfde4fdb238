"""Compile rules/ to the one table that the service loads: `python -m geo_router.rulebook.compile`.

Deterministic: the same files give the same bytes, on every machine. The SHA-256 of those bytes is
the data hash that every answer and every token carries. `--check` writes nothing and exits 1 when
the compiled table is not what the files give.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from geo_router import rank
from geo_router.rulebook import sources
from geo_router.tables import COMPILED

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from geo_router.rulebook.sources import Sources


def main(argv: Sequence[str] | None = None) -> int:
    """Write the compiled table, or say whether it is what the files give."""
    arguments = argparse.ArgumentParser(prog="python -m geo_router.rulebook.compile")
    arguments.add_argument(
        "--check", action="store_true", help="write nothing, exit 1 when stale"
    )
    arguments.add_argument(
        "--rules", type=Path, default=sources.FOLDER, help="folder of the rules"
    )
    arguments.add_argument("--out", type=Path, default=COMPILED, help="the compiled table")
    given = arguments.parse_args(argv)
    fresh = compiled(given.rules)
    stands = given.out.read_bytes() if given.out.exists() else b""
    if given.check:
        if stands != fresh:
            print(  # noqa: T201 - a program of its own
                f"{given.out} is not what {given.rules} gives: run python -m {arguments.prog[10:]}",
                file=sys.stderr,
            )
        stale = [path for path, text in _schemas().items() if _text(path) != text]
        if stale:
            print(f"stale: {', '.join(path.name for path in stale)}", file=sys.stderr)  # noqa: T201
        return int(stands != fresh or bool(stale))
    given.out.write_bytes(fresh)
    for path, text in _schemas().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    print(f"{given.out.name} {len(fresh)} bytes sha256:{hashlib.sha256(fresh).hexdigest()}")  # noqa: T201
    return 0


def _schemas() -> dict[Path, str]:
    """The JSON Schema of each YAML file, as a file beside them."""
    return {
        sources.FOLDER / "schema" / f"{Path(name).stem}.json": json.dumps(schema, indent=1)
        + "\n"
        for name, schema in sources.schemas().items()
    }


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def compiled(folder: Path = sources.FOLDER) -> bytes:
    """The bytes of the compiled table of a rules folder."""
    digests = {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sources.FILES
    }
    table = {"sources": digests, **tabulate(sources.read(folder))}
    lines = [f"{json.dumps(key)}:{_rows(value)}" for key, value in sorted(table.items())]
    return ("{" + ",\n".join(lines) + "}\n").encode()


def tabulate(given: Sources) -> dict[str, object]:
    """The table as JSON values; names become numbers, sets become masks."""
    names = [cluster.id for cluster in given.clusters.clusters]
    if names != given.rules.clusters:
        raise ValueError(
            f"clusters.yaml lists {names}, residency_rules.yaml {given.rules.clusters}"
        )
    model = rtt_model(given)
    rules = {rule.id: at for at, rule in enumerate(given.rules.rules)}
    return {
        "version": given.rules.version,
        "disclaimer": given.rules.disclaimer,
        "sectors": given.rules.sectors,
        "clusters": [_cluster(given, name) for name in names],
        "conditions": [
            [name, c.holder, c.default, c.effective_from, c.text]
            for name, c in given.rules.conditions.items()
        ],
        "vendor_facts": [[fact.condition, fact.since] for fact in given.facts.facts],
        "offerings": {
            offering.id: {
                "title": offering.title,
                "category": offering.category,
                "clusters": _mask(offering.clusters, names),
                "countries": offering.countries,
                "scope": offering.scope,
                "status": offering.status,
                "confidence": offering.confidence,
                "url": offering.url,
                "note": offering.note,
            }
            for offering in given.offerings.offerings
        },
        "scopes": given.offerings.scopes,
        "claim": given.offerings.claim,
        "countries": _countries(given, rules, model),
        "aliases": given.extra.aliases,
        "subdivisions": {code: rules[rule] for code, rule in given.rules.subdivisions.items()},
        "rules": [_rule(given, rule) for rule in given.rules.rules],
        "rtt_model": {
            "access_ms": model.access_ms,
            "ms_per_km": model.ms_per_km,
            "nearest_hubs": model.nearest_hubs,
            "reach_km": model.reach_km,
            "radius_km": model.radius_km,
            "hubs": [
                [region.name, region.lat, region.lon, [region.rtt_ms[name] for name in names]]
                for region in given.regions
            ],
        },
        "data_kinds": {kind: duty.text for kind, duty in given.obligations.data_kinds.items()},
        "flags": {
            flag: [duty.text, duty.countries] for flag, duty in given.obligations.flags.items()
        },
    }


def rtt_model(given: Sources) -> rank.Model:
    """The round-trip model of the given files."""
    figures, clusters = given.clusters.rtt_model, given.clusters.clusters
    names = tuple(cluster.id for cluster in clusters)
    return rank.Model(
        names=names,
        hubs=tuple(
            rank.Hub(
                rank.vector(region.lat, region.lon),
                tuple(region.rtt_ms[name] for name in names),
            )
            for region in given.regions
        ),
        clusters=tuple(rank.vector(c.point.lat, c.point.lon) for c in clusters),
        access_ms=figures.access_ms,
        ms_per_km=figures.ms_per_km,
        nearest_hubs=figures.hubs,
        reach_km=figures.max_hub_km,
        radius_km=figures.earth_radius_km,
    )


def _cluster(given: Sources, name: str) -> dict[str, object]:
    cluster = next(c for c in given.clusters.clusters if c.id == name)
    backup = cluster.backup_region
    return {
        "id": cluster.id,
        "aliases": cluster.aliases,
        "name": cluster.display_name,
        "azure_region": cluster.azure_region,
        "country": cluster.country,
        "jurisdiction": cluster.jurisdiction,
        "place": cluster.physical_location,
        "lat": cluster.point.lat,
        "lon": cluster.point.lon,
        "zones": cluster.availability_zones,
        "state": cluster.placement_state,
        "backup": {
            "azure_region": backup.azure_region,
            "place": backup.physical_location,
            "country": cluster.country if backup.same_country else None,
            "access_restricted": backup.access_restricted,
        },
    }


def _countries(
    given: Sources, rules: dict[str, int], model: rank.Model
) -> dict[str, list[object]]:
    """Per code: name, rule, point, whole ms and km per cluster; every code has exactly one rule."""
    of_rule = [(code, rule.id) for rule in given.rules.rules for code in rule.countries]
    owner = dict(of_rule) | given.rules.extra_codes
    if len(owner) != len(of_rule) + len(given.rules.extra_codes):
        raise ValueError("residency_rules.yaml: a country stands in more than one rule")
    points = {c.iso2: (c.name, c.lat, c.lon) for c in given.countries}
    points |= {code: (c.name, c.lat, c.lon) for code, c in given.extra.codes.items()}
    if points.keys() != owner.keys():
        lost = sorted(points.keys() ^ owner.keys())
        raise ValueError(f"countries with a rule and countries with a point differ: {lost}")
    return {
        code: [name, rules[owner[code]], lat, lon, *_near(model, lat, lon)]
        for code, (name, lat, lon) in sorted(points.items())
    }


def _near(model: rank.Model, lat: float, lon: float) -> tuple[list[int], list[int]]:
    places = rank.places_from(model, lat, lon)
    return list(places.rtt_ms), list(places.km)


def _rule(given: Sources, rule: sources.Rule) -> dict[str, object]:
    parts = {"general": _part(given, rule, rule.confidence, rule.strength)}
    for sector, part in rule.sectors.items():
        if sector not in given.rules.sectors or sector == "general":
            raise ValueError(f"{rule.id}: no such sector {sector}")
        parts[sector] = _part(given, part, part.confidence, part.strength)
    return {
        "id": rule.id,
        "title": rule.title,
        "home": None if rule.home is None else given.rules.clusters.index(rule.home),
        "basis": rule.basis,
        "evidence": rule.evidence,
        "needs_legal_review": rule.needs_legal_review,
        "citations": [f"{c.law} {c.article}".strip() for c in rule.citations],
        "sources": [c.url for c in rule.citations],
        "review_by": rule.review_by,
        "effective_from": rule.effective_from,
        "reviewed": rule.reviewed,
        "flags": rule.flags,
        "parts": parts,
        "history": [
            [text.until, _part(given, text, rule.confidence, rule.strength)]
            for text in sorted(rule.history, key=lambda text: text.until)
        ],
    }


def _part(
    given: Sources,
    part: sources.Rule | sources.SectorPart | sources.FormerText,
    confidence: str,
    strength: str,
) -> dict[str, object]:
    clusters, conditions = given.rules.clusters, list(given.rules.conditions)
    ways: dict[int, int] = {}
    for cluster, alternatives in part.conditional.items():
        for together in alternatives:
            need = _mask(together, conditions)
            ways[need] = ways.get(need, 0) | _mask([cluster], clusters)
    return {
        "allow": _mask(part.allow, clusters),
        "ways": sorted([need, opened] for need, opened in ways.items()),
        "refuse": None if part.refuse is None else [part.refuse.kind, part.refuse.reason],
        "confidence": confidence,
        "strength": strength,
        "why": part.why,
    }


def _mask(members: Iterable[str], names: Sequence[str]) -> int:
    return sum({1 << names.index(member) for member in members})


def _rows(value: object) -> str:
    """JSON with one entry of a table on a line, so that a change of one rule is a diff of one line."""
    match value:
        case dict():
            rows = [f"{json.dumps(key)}:{_flat(item)}" for key, item in sorted(value.items())]  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            return "{\n" + ",\n".join(rows) + "}"
        case list():
            return "[\n" + ",\n".join(_flat(item) for item in value) + "]"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        case _:
            return _flat(value)


def _flat(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


if __name__ == "__main__":
    sys.exit(main())
