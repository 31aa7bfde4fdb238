"""The router over HTTP, without the transport: bytes in; status, headers and bytes out.

`answer` gives 200, 202, 451, 422 or 400 by the outcome, and 413 or 415 for what is not looked at.
A refusal is a problem document that carries the members of the answer object.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode

import msgspec

from geo_router import explain, router, signed, tables, texts
from geo_router.model import NO_EVIDENCE, Evidence, Refusal
from spaces.errors import FieldError, InvalidError, KpaxError, RefusedError
from spaces.jsonlimits import decode_strictly
from spaces.problems import problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geo_router.router import Settled
    from geo_router.signed import SigningKey
    from geo_router.tables import Tables

LARGEST_BODY = 16 * 1024
DEEPEST = 4
UNAVAILABLE_FOR_LEGAL_REASONS = 451
"""RFC 7725, for sanctions and localisation."""

_BAD_INPUT = ("invalid-input", "unknown-country")
_BY_LAW = ("sanctions", "localisation")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A decided request as HTTP says it; refusals are raised instead."""

    status: int
    headers: dict[str, str]
    body: dict[str, object]


def answer(
    body: bytes, content_type: str, *, now: datetime, key: SigningKey | None
) -> tuple[int, dict[str, str], bytes]:
    """The whole HTTP answer to `POST /api/v1/route`."""
    try:
        found = decide(body, content_type, now=now, key=key)
    except KpaxError as error:
        headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
        return error.problem_status, headers, msgspec.json.encode(problem(error))
    headers = {"Content-Type": "application/json", **found.headers}
    return found.status, headers, msgspec.json.encode(found.body)


def decide(
    body: bytes,
    content_type: str,
    *,
    now: datetime,
    key: SigningKey | None,
    evidence: Evidence = NO_EVIDENCE,
) -> Answered:
    """The outcome of a request: allowed, queued or for review; a refusal raises a `KpaxError`.

    An allowed answer is signed where a key is given and nothing speaks against it.
    """
    rules, today = tables.load(), now.astimezone(UTC).date().isoformat()
    try:
        raw = _decoded(body, content_type)
    except InvalidError as error:
        error.members |= unreadable(error, today=today)
        raise
    settled = router.settle(rules, raw, today=today, evidence=evidence)
    found = _answered(rules, settled, {"Cache-Control": "no-store"})
    if not settled.may_sign or key is None:
        return found
    return replace(found, body=signed.sign(found.body, key=key, now=now, jti=str(uuid.uuid4())))


def preview(query: Mapping[str, str], *, now: datetime) -> Answered:
    """The outcome of a request written as query parameters, lists with commas: never signed."""
    rules, today = tables.load(), now.astimezone(UTC).date().isoformat()
    raw = {name: texts.field_of(name, text, ",") for name, text in query.items()}
    settled = router.settle(rules, raw, today=today)
    return _answered(rules, settled, {"Cache-Control": "public, max-age=60"})


def _answered(rules: Tables, settled: Settled, headers: dict[str, str]) -> Answered:
    found = settled.answer
    match found["decision"]:
        case "allowed":
            return Answered(status=200, headers=headers, body=found)
        case "queued" | "needs_review":
            # Nothing is stored for an anonymous question: asking again tells how it stands.
            again = urlencode(texts.query_of(settled.form or {}))
            where = {"Location": f"/api/v1/route?{again}"}
            return Answered(status=202, headers=headers | where, body=found)
        case _:
            raise _refused(rules, found)


def _decoded(body: bytes, content_type: str) -> object:
    if len(body) > LARGEST_BODY:
        raise InvalidError(
            "the body is too large",
            remedy=f"At most {LARGEST_BODY} bytes.",
            slug="body-too-large",
            status=413,
            members={"max": LARGEST_BODY},
        )
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidError(
            "the content type is not JSON",
            remedy="Send Content-Type: application/json.",
            slug="unsupported-media-type",
            status=415,
        )
    return decode_strictly(body, max_depth=DEEPEST)


def _refused(rules: Tables, found: dict[str, object]) -> KpaxError:
    """The refusal as an error whose problem document has the answer's members."""
    kind, summary = str(found["refusal"]), str(found["summary"])
    members = {name: value for name, value in found.items() if name != "errors"}
    if kind in _BAD_INPUT:
        wrong = cast("list[dict[str, str]]", found["errors"])
        errors = tuple(FieldError(**entry) for entry in wrong)
        return InvalidError(
            "the request cannot be read",
            remedy=summary,
            slug=kind,
            errors=errors,
            members=members,
        )
    return RefusedError(
        f"our policy gives no place: {kind}",
        remedy=f"{summary} {rules.disclaimer}",
        slug=kind,
        status=UNAVAILABLE_FOR_LEGAL_REASONS if kind in _BY_LAW else 422,
        members=members,
    )


def object_of(document: dict[str, object]) -> dict[str, object]:
    """The answer object out of an HTTP body: a problem document without what HTTP added."""
    added = ("type", "title", "status", "detail", "instance")
    return {name: value for name, value in document.items() if name not in added}


def not_a_request(what: str, remedy: str) -> InvalidError:
    """The error for what is no request, with the answer's members."""
    error = InvalidError(what, remedy=remedy, slug=str(Refusal.INVALID_INPUT))
    error.members |= unreadable(error)
    return error


def unreadable(error: KpaxError, *, today: str | None = None) -> dict[str, object]:
    """The answer object for a body or file that is no request at all."""
    wrong = FieldError(pointer="", code=error.problem_slug, message=str(error))
    return explain.bad_input(tables.load(), Refusal.INVALID_INPUT, [wrong], today=today)
