"""`kpax route`: ask where a customer's space may live.

Asks the running stack, whose answer may be ordered on; where none runs, decides in place by the
same rules, unsigned. With `--json` it prints the answer object for every outcome, bad input too.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from geo_router import dress, router, tables, texts
from geo_router.contract import DEEPEST, object_of, unreadable
from spaces.cli import Json, emit, failing, say, stop
from spaces.errors import Exit, InvalidError, UnreachableError
from spaces.jsonlimits import decode_strictly

route_app = typer.Typer(invoke_without_command=True, add_completion=False)

type Answer = dict[str, object]

_EXITS = {
    "allowed": Exit.DONE,
    "refused": Exit.REFUSED,
    "queued": Exit.QUEUED,
    "needs_review": Exit.NEEDS_PERSON,
}
_BAD_INPUT = ("invalid-input", "unknown-country")


@route_app.callback()
def route(
    ctx: typer.Context,
    country: Annotated[
        str | None, typer.Option(help="Country of establishment, ISO 3166-1 alpha-2.")
    ] = None,
    sector: Annotated[
        str | None, typer.Option(help="general, health, finance, payments or public.")
    ] = None,
    subdivision: Annotated[
        str | None, typer.Option(help="ISO 3166-2, for example CA-QC.")
    ] = None,
    lat: Annotated[
        str | None, typer.Option(help="Latitude of the users: distance only, never law.")
    ] = None,
    lon: Annotated[str | None, typer.Option(help="Longitude of the users.")] = None,
    subjects: Annotated[
        str | None,
        typer.Option(help="Countries whose people are in the data, comma-separated."),
    ] = None,
    billing_country: Annotated[
        str | None, typer.Option(help="Evidence: the country that pays.")
    ] = None,
    ip_country: Annotated[
        str | None, typer.Option(help="Evidence: the country of the network address.")
    ] = None,
    require: Annotated[
        str | None, typer.Option(help="Certifications the cluster must carry, comma-separated.")
    ] = None,
    assertions: Annotated[
        str | None,
        typer.Option("--assert", help="Conditions declared to hold, comma-separated."),
    ] = None,
    withdraw: Annotated[
        str | None, typer.Option(help="Conditions that do not hold, comma-separated.")
    ] = None,
    pin: Annotated[str | None, typer.Option(help="This cluster or none.")] = None,
    exclude: Annotated[
        str | None, typer.Option(help="Not these clusters, comma-separated.")
    ] = None,
    prefer: Annotated[
        str | None, typer.Option(help="residency (home first) or latency.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="The home cluster or none.")] = False,
    allow_fallback: Annotated[
        bool, typer.Option("--allow-fallback", help="Move on when the home cluster is full.")
    ] = False,
    accept_superseded: Annotated[
        bool, typer.Option("--accept-superseded", help="Superseded certificates count too.")
    ] = False,
    measured_rtt: Annotated[
        str | None,
        typer.Option(help="Own samples in ms: uk=12,uk=11,uk=13,france=9 (a preview)."),
    ] = None,
    data_kinds: Annotated[
        str | None, typer.Option(help="Kinds of data to be told about, comma-separated.")
    ] = None,
    as_of: Annotated[
        str | None, typer.Option(help="By the rules of this day, YYYY-MM-DD (a preview).")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="rtt or distance; decided in place, unsigned.")
    ] = None,
    placement: Annotated[
        str | None,
        typer.Option(help="State of clusters: france=full,uk=open; in place, unsigned."),
    ] = None,
    request: Annotated[
        str | None, typer.Option(help="A JSON request from a file, or - for stdin; alone.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="The whole explanation as text.")
    ] = False,
    as_html: Annotated[
        bool, typer.Option("--html", help="The whole explanation as a page of its own.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask where a customer's space may live, and why.

    Exit codes: 0 allowed, 3 refused, 4 queued, 5 needs a person, 2 bad input.

    Example: kpax route --country CA --subdivision CA-QC --sector health --explain
    """
    if ctx.invoked_subcommand is not None:
        return
    given: dict[str, object | None] = {
        "country": country,
        "sector": sector,
        "subdivision": subdivision,
        "coordinates": _coordinates(lat, lon),
        "data_subject_countries": _listed(subjects),
        "billing_country": billing_country,
        "ip_country": ip_country,
        "certifications": _listed(require),
        "assertions": _listed(assertions),
        "withdrawn": _listed(withdraw),
        "pin": pin,
        "exclude": _listed(exclude),
        "prefer": prefer,
        "strict_residency": strict or None,
        "allow_fallback": allow_fallback or None,
        "accept_superseded": accept_superseded or None,
        "measured_rtt": measured_rtt and texts.samples_of(measured_rtt, ","),
        "data_kinds": _listed(data_kinds),
        "as_of": as_of,
    }
    arguments = _arguments(metric, placement)
    with failing(as_json=as_json):
        try:
            asked: object = {name: value for name, value in given.items() if value is not None}
            if request is not None:
                asked = _from_file(request, alone=not asked)
            answer = _in_place(asked, arguments) if arguments else _ask(asked)
        except InvalidError as error:
            answer = unreadable(error)
    if as_html and not as_json:
        from geo_router import dress_html  # noqa: PLC0415 - one answer in text needs none of it

        emit(answer, as_json=False, text=dress_html.page(answer))
    elif as_json or not _is_bad(answer):
        emit(answer, as_json=as_json, text=dress.text(answer, whole=explain))
    else:
        say(dress.text(answer))
    stop(_exit(answer))


@route_app.command()
def verify(
    token: Annotated[str, typer.Argument(help="A decision token; - reads it from stdin.")],
    keys: Annotated[
        Path | None,
        typer.Option(help="A JSON Web Key Set; else the running stack is asked for its keys."),
    ] = None,
    request: Annotated[
        str | None,
        typer.Option(help="The JSON request that it should have been issued on, from a file."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a decision token, and tell what it says and by which rules it was decided.

    Exit codes: 0 good, 3 refused (forged, expired, unknown key, another request), 2 no token at all.

    Example: kpax route verify eyJhbGciOiJFZERTQSIs... --request request.json
    """
    from geo_router import keyset, proof  # noqa: PLC0415 - one request needs no cryptography

    with failing(as_json=as_json):
        told = proof.proof(
            (sys.stdin.read() if token == "-" else token).strip(),  # noqa: S105 - stdin, no secret
            keys=keyset.read(_key_set(keys)),
            now=datetime.now(UTC),
            versions=_editions(),
            request=None if request is None else _from_file(request, alone=True),
        )
    emit(told, as_json=as_json, text=proof.text(told))
    if told["valid"]:
        stop(Exit.DONE)
    stop(Exit.BAD_INPUT if told["reason"] in proof.UNREADABLE else Exit.REFUSED)


@route_app.command()
def batch(
    source: Annotated[Path, typer.Argument(help="Requests: .csv, .jsonl or .parquet.")],
    target: Annotated[Path, typer.Argument(help="Requests with their answers, same format.")],
    as_json: Json = False,
) -> None:
    """Answer many requests in place, unsigned; exit 1 when any row was bad.

    CSV columns are request fields, lists separated by `;`. Parquet needs pyarrow to be installed.

    Example: kpax route batch customers.csv answers.csv
    """
    from geo_router.rulebook.batch import Batch  # noqa: PLC0415 - one request needs none of it

    with failing(as_json=as_json):
        if source.resolve() == target.resolve():
            raise InvalidError("source and target are the same file", where=str(source))
        today = datetime.now(UTC).date().isoformat()
        count = Batch(tables.load(), today).run(source, target)
    body = {"rows": count.rows, "bad": count.bad, "target": str(target)}
    emit(body, as_json=as_json, text=f"{count.rows} rows, {count.bad} of them bad: {target}")
    stop(Exit.FAILED if count.bad else Exit.DONE)


def _ask(asked: object) -> Answer:
    """The running stack's answer; where none runs, our own."""
    from spaces import client  # noqa: PLC0415 - deciding in place needs no client

    try:
        where = client.endpoint()
    except UnreachableError:
        return _in_place(asked, {})
    status, raw = client.Client(where).raw("POST", "/route", body=asked)
    try:
        document: object = json.loads(raw)
    except json.JSONDecodeError:
        document = {}
    found = cast("Answer", document) if isinstance(document, dict) else {}
    if "decision" not in found:
        raise client.error_of(found, status)
    return object_of(found)


def _key_set(file: Path | None) -> object:
    """The published keys: of a file, or of the running stack."""
    if file is not None:
        return decode_strictly(_bytes_of(str(file), "key set"))
    from spaces import client  # noqa: PLC0415 - a file needs no client

    return client.connect().get("/route/keys")


def _editions() -> dict[str, str]:
    """Versions of the rules by their hash, where the rules' folder stands beside the code."""
    try:
        from geo_router.rulebook import sources  # noqa: PLC0415 - PyYAML is for those who edit rules

        return {one.data_hash: one.version for one in sources.read_changes().changes}
    except (ImportError, OSError):
        return {}


def _in_place(asked: object, arguments: dict[str, Any]) -> Answer:
    return router.route(cast("dict[str, object]", asked), **arguments)


def _from_file(name: str, *, alone: bool) -> object:
    """The JSON request of a file or of stdin."""
    if not alone:
        raise InvalidError(
            "--request stands alone", remedy="Leave the other fields of the request out."
        )
    return decode_strictly(_bytes_of(name, "request"), max_depth=DEEPEST)


def _bytes_of(name: str, thing: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise InvalidError(
            f"the {thing} cannot be read: {error.strerror}", where=f"file {name}"
        ) from error


def _arguments(metric: str | None, placement: str | None) -> dict[str, Any]:
    """What only a decision in place takes."""
    given: dict[str, Any] = {}
    if metric is not None:
        given["metric"] = metric
    if placement is not None:
        pairs = [entry.partition("=") for entry in placement.split(",")]
        given["placement"] = {name: state for name, _, state in pairs}
    return given


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else texts.list_of(text, ",")


def _coordinates(lat: str | None, lon: str | None) -> list[object] | None:
    given = [texts.number_or_text(text) for text in (lat, lon) if text is not None]
    return given or None


def _is_bad(answer: Answer) -> bool:
    return answer["refusal"] in _BAD_INPUT


def _exit(answer: Answer) -> Exit:
    return Exit.BAD_INPUT if _is_bad(answer) else _EXITS[str(answer["decision"])]
