"""`kpax rules` and `kpax compliance`: look at the rules and the register, and check a change.

These commands compute. A running system is asked for its spaces only (`diff --spaces`, `reviews`).
"""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, NoReturn, cast

import msgspec
import typer
import yaml

from geo_router import compliance, lookup, tables
from geo_router.rulebook import compile as compiling
from geo_router.rulebook import diff, sources
from geo_router.rulebook.lint import lint
from geo_router.rulebook.reevaluate import Stored, review
from spaces.cli import Json, emit, failing, say, stop, table
from spaces.errors import Exit, InvalidError, NotFoundError

rules_app = typer.Typer(no_args_is_help=True, add_completion=False)
compliance_app = typer.Typer(no_args_is_help=True, add_completion=False)

GOLDEN = Path(__file__).parents[2] / "tests" / "geo_router" / "golden" / "decisions.csv"
Folder = Annotated[Path, typer.Option("--rules", help="Folder of the rules.")]


@rules_app.callback()
def _rules() -> None:
    """Look at the rules, check them, and see what a change of them changes.

    Example: kpax rules lint
    """


@compliance_app.callback()
def _compliance() -> None:
    """The platform vendor's certifications and offerings. They are the vendor's, never ours.

    Example: kpax compliance for --cluster france
    """


@rules_app.command("lint")
def check(folder: Folder = sources.FOLDER, as_json: Json = False) -> None:
    """Say everything that is wrong with the rules; exit 1 on an error, 0 with warnings only.

    Example: kpax rules lint
    """
    with failing(as_json=as_json):
        found = lint(
            _read(folder),
            sources.read_changes(folder),
            data_hash=_load(folder).hash,
            today=date.fromisoformat(_today()),
        )
    items = [
        {"level": f.level, "where": f.where, "code": f.code, "message": f.message}
        for f in found
    ]
    rows = [[f.level, f.where, f.code, f.message] for f in found]
    emit(
        {"items": items},
        as_json=as_json,
        text=table(("level", "where", "code", "message"), rows),
    )
    stop(Exit.FAILED if any(f.level == "error" for f in found) else Exit.DONE)


@rules_app.command("compile")
def compile_(check_only: Annotated[bool, typer.Option("--check")] = False) -> None:
    """Write the compiled table; with --check only say whether it is current (exit 1 when not).

    Example: kpax rules compile --check
    """
    with failing(as_json=False):
        _read(sources.FOLDER)
        stop(Exit(compiling.main(["--check"] if check_only else [])))


@rules_app.command()
def golden() -> None:
    """Write the golden table: the answer for every place and sector, for review as a diff.

    Example: kpax rules golden && git diff tests/geo_router/golden
    """
    rules = tables.load()
    GOLDEN.write_text(diff.as_csv(lookup.lines(rules, today=_today())))
    say(f"{GOLDEN} by the rules {rules.version}")


@rules_app.command("diff")
def difference(
    old: Annotated[Path, typer.Argument(help="Folder of rules, or a compiled file.")],
    new: Annotated[Path, typer.Argument(help="Folder of rules, or a compiled file.")],
    spaces: Annotated[
        bool, typer.Option("--spaces", help="Which spaces of the running stack are touched.")
    ] = False,
    spaces_from: Annotated[
        Path | None,
        typer.Option(help="The same for JSON lines {space_id, cluster, request} of a file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say in words which answers a change of the rules changes, and which spaces it touches.

    Example: kpax rules diff /tmp/rules-of-last-week rules --spaces
    """
    with failing(as_json=as_json):
        before, after = _load(old), _load(new)
        today = _today()
        found = diff.changes(before, after, today=today)
        stored = [*(_running() if spaces else ()), *_stored(spaces_from)]
        pairs = zip(
            review(before, stored, today=today), review(after, stored, today=today), strict=True
        )
        touched = [(was, now) for was, now in pairs if was.standing is not now.standing]
    items = [
        {"place": c.new.place, "sector": c.new.sector, "old": str(c.old), "new": str(c.new)}
        for c in found
    ]
    moved = [
        {"space_id": now.space_id, "old": str(was.standing), "new": str(now.standing)}
        for was, now in touched
    ]
    lines = [*map(str, found)]
    lines += [
        f"{now.space_id} in {now.cluster}: {was.standing} → {now.standing}"
        for was, now in touched
    ]
    lines.append(f"{len(found)} answers differ, {len(touched)} of {len(stored)} spaces touched")
    emit({"items": items, "spaces": moved}, as_json=as_json, text="\n".join(lines))


@rules_app.command()
def reviews(as_json: Json = False) -> None:
    """Spaces of the running stack that the daily review found in another place than today's.

    Example: kpax rules reviews --json
    """
    from spaces import client  # noqa: PLC0415 - the other commands need no running system

    with failing(as_json=as_json):
        body = client.connect().get("/route/reviews")
    header = ("name", "cluster", "standing", "today", "rules", "data_version", "day")
    items = cast("list[dict[str, object]]", body["items"])
    rows = [[item[name] for name in header] for item in items]
    emit(body, as_json=as_json, text=table(header, rows))


@rules_app.command()
def show(
    name: Annotated[str, typer.Argument(help="A rule's id, or a country code.")],
    as_json: Json = False,
) -> None:
    """Show a rule as it is written, with its sources.

    Example: kpax rules show eu-gdpr
    """
    with failing(as_json=as_json):
        rules = tables.load()
        country = rules.countries.get(rules.aliases.get(name.upper(), name.upper()))
        wanted = name if country is None else country.rule.id
        written = next((r for r in sources.read().rules.rules if r.id == wanted), None)
        if written is None:
            raise NotFoundError(
                f"there is no rule {name[:64]!r}", remedy="See: kpax rules coverage."
            )
    body = msgspec.to_builtins(written)
    emit(body, as_json=as_json, text=json.dumps(body, ensure_ascii=False, indent=2))


@rules_app.command()
def coverage(as_json: Json = False) -> None:
    """Every country with its rule and the answer for each sector.

    Example: kpax rules coverage
    """
    body = lookup.coverage(_today())
    header = ("place", "rule", *tables.load().sectors)
    items = cast("list[dict[str, object]]", body["items"])
    rows = [[item[name] for name in header] for item in items]
    emit(body, as_json=as_json, text=table(header, rows))


@rules_app.command()
def stale(as_json: Json = False) -> None:
    """Rules by the day on which somebody should look at them again, and those never reviewed.

    Example: kpax rules stale
    """
    today = _today()
    items = [
        {
            "id": rule.id,
            "review_by": rule.review_by,
            "overdue": rule.review_by is not None and rule.review_by < today,
            "confidence": rule.now["general"].confidence,
            "needs_legal_review": rule.needs_legal_review,
        }
        for rule in sorted(tables.load().rules, key=lambda r: (r.review_by or "9999", r.id))
        if rule.review_by is not None or rule.needs_legal_review
    ]
    header = ("id", "review_by", "overdue", "confidence", "needs_legal_review")
    rows = [[item[name] for name in header] for item in items]
    emit({"items": items}, as_json=as_json, text=table(header, rows))


@compliance_app.command("list")
def offerings(
    status: Annotated[
        str | None, typer.Option(help="current, renamed, superseded, retired.")
    ] = None,
    scope: Annotated[
        str | None, typer.Option(help="For example commercial or guidance.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Every offering of the register, and the counts per cluster.

    Example: kpax compliance list --status current
    """
    _print_offerings(None, status, scope, as_json=as_json)


@compliance_app.command("for")
def for_cluster(
    cluster: Annotated[str, typer.Option(help="A cluster's id or another name of it.")],
    as_json: Json = False,
) -> None:
    """The offerings that a cluster carries.

    Example: kpax compliance for --cluster france
    """
    _print_offerings(cluster, None, None, as_json=as_json)


@compliance_app.command("show")
def show_offering(name: Annotated[str, typer.Argument()], as_json: Json = False) -> None:
    """One offering with scope, status, source and the clusters that carry it.

    Example: kpax compliance show iso-27001
    """
    rules = tables.load()
    with failing(as_json=as_json):
        if name not in rules.offerings:
            raise NotFoundError(
                f"there is no offering {name[:64]!r}", remedy="See: kpax compliance list."
            )
    body = compliance.view(rules, rules.offerings[name])
    emit(body, as_json=as_json, text=json.dumps(body, ensure_ascii=False, indent=2))


@compliance_app.command()
def matrix(as_json: Json = False) -> None:
    """Clusters by offerings: x carried, + carried, audited and current by its scope.

    Example: kpax compliance matrix
    """
    rules = tables.load()
    header = ("offering", *(cluster.id for cluster in rules.clusters))
    rows = [
        [o.id, *(_mark(o, at) for at in range(len(rules.clusters)))]
        for o in rules.offerings.values()
    ]
    items = [dict(zip(header, row, strict=True)) for row in rows]
    text = f"{table(header, rows)}\n{rules.claim}"
    emit({"items": items, "claim": rules.claim}, as_json=as_json, text=text)


def _mark(offering: tables.Offering, at: int) -> str:
    if not offering.clusters >> at & 1:
        return ""
    return "+" if compliance.is_audited_and_current(offering) else "x"


def _print_offerings(
    cluster: str | None, status: str | None, scope: str | None, *, as_json: bool
) -> None:
    rules = tables.load()
    with failing(as_json=as_json):
        if cluster is not None and cluster.strip().lower() not in rules.cluster_numbers:
            raise NotFoundError(f"there is no cluster {cluster[:64]!r}")
        if scope is not None and scope not in rules.scopes:
            _bad_choice("scope", scope, list(rules.scopes))
        known = sorted({offering.status for offering in rules.offerings.values()})
        if status is not None and status not in known:
            _bad_choice("status", status, known)
    found = compliance.listed(rules, cluster=cluster, status=status, scope=scope)
    of = (
        None
        if cluster is None
        else rules.clusters[rules.cluster_numbers[cluster.strip().lower()]].id
    )
    counted = [row for row in compliance.counts(rules) if of in (None, row["cluster"])]
    body = {
        "items": [compliance.view(rules, offering) for offering in found],
        "listed": len(rules.offerings),
        "counts": counted,
        "ours": list(compliance.OURS),
        "claim": rules.claim,
    }
    rows = [[o.id, o.scope, o.status, o.title] for o in found]
    sums = [[row["cluster"], row["carried"], row["audited_and_current"]] for row in counted]
    text = "\n\n".join(
        [
            table(("id", "scope", "status", "title"), rows),
            table(("cluster", "carried", "of these audited and current, by scope"), sums),
            f"{len(found)} of {len(rules.offerings)} listed. {rules.claim} We hold none ourselves.",
        ]
    )
    emit(body, as_json=as_json, text=text)


def _bad_choice(name: str, value: str, known: list[str]) -> NoReturn:
    raise InvalidError(
        f"there is no {name} {value[:64]!r}", remedy=f"One of: {', '.join(known)}."
    )


def _read(folder: Path) -> sources.Sources:
    try:
        return sources.read(folder)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InvalidError(f"the rules cannot be read: {error}", where=str(folder)) from error


def _load(path: Path) -> tables.Tables:
    try:
        return diff.load(path)
    except (OSError, ValueError, KeyError, yaml.YAMLError) as error:
        raise InvalidError(f"these are no rules: {error}", where=str(path)) from error


def _running() -> list[Stored]:
    """The stored requests of the running stack's spaces."""
    from spaces import client  # noqa: PLC0415 - the other commands need no running system

    body = client.connect().get("/route/requests")
    return msgspec.convert(body["items"], type=list[Stored])


def _stored(path: Path | None) -> list[Stored]:
    if path is None:
        return []
    try:
        return [
            msgspec.json.decode(line, type=Stored)
            for line in path.read_bytes().splitlines()
            if line
        ]
    except (OSError, ValueError) as error:
        raise InvalidError(f"the spaces cannot be read: {error}", where=str(path)) from error


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
