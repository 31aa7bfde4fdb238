"""The HTTP layer: one decorator does for every endpoint what must not differ between them.

In this order: request id → body limits → authenticate → authorise → rate → accept → strict
decoding → idempotency → handler → ETag and headers. Errors become problem documents here and
nowhere else. The decorator also keeps what `spaces.openapi` tells: code and document cannot differ.
Source: console-and-api.md 1 and 2.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import azure.functions as func
import msgspec

from spaces import callers, idempotency
from spaces.accept import takes_json
from spaces.errors import DeniedError, ErrorKind, FieldError, InvalidError, KpaxError
from spaces.jsonlimits import decode_strictly
from spaces.ports import Ports
from spaces.problems import problem
from spaces.saga.asked import Asker
from spaces.settings import Settings, settings
from spaces.wiring import ports

log = logging.getLogger("kpax.http")

PREFIX = "api/v1"
KEY_HEADER = "x-functions-key"
MAX_BODY = 64 * 1024
REQUEST_ID = 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks: `anonymous`, or the holder of a key. The seam where tokens will come in."""

    subject: str
    is_known: bool


ANONYMOUS = Principal(subject="anonymous", is_known=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A checked request, as handlers see it; `body` is of the endpoint's declared type."""

    request_id: str
    principal: Principal
    params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: object
    raw: bytes
    ports: Ports
    settings: Settings
    idempotency_key: str = ""

    def asker(self, reason: str | None = None) -> Asker:
        """Who asks for what this request starts, and why."""
        return Asker(caller=self.principal.subject, key=self.idempotency_key, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a handler answers: a status, a body to encode as JSON, more headers."""

    body: object
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


type Handler = Callable[[Request], Awaitable[Reply]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What the API document says of one endpoint, and how it is served.

    With `key_optional` an `Idempotency-Key` may be left out. With `reads_itself` the handler reads
    raw body and query, with limits and errors of its own; `body` then only documents.
    """

    method: str
    path: str
    name: str
    summary: str
    action: str
    body: type | None
    response: object
    status: int
    public: bool
    idempotent: bool
    problems: tuple[str, ...]
    query: tuple[str, ...]
    key_optional: bool = False
    reads_itself: bool = False


OPERATIONS: list[Operation] = []


def endpoint(
    blueprint: func.Blueprint,
    method: str,
    path: str,
    *,
    name: str,
    action: str,
    summary: str,
    response: object,
    body: type | None = None,
    status: int = 200,
    public: bool = False,
    idempotent: bool = False,
    problems: tuple[str, ...] = (),
    query: tuple[str, ...] = (),
    key_optional: bool = False,
    reads_itself: bool = False,
) -> Callable[[Handler], Handler]:
    """Serve `method` on `/api/v1{path}` by the decorated handler.

    `name` is the function's name on Azure, `action` the right that it needs, `body` the msgspec
    type of its request, `response` that of its answer. `idempotent` endpoints need an
    `Idempotency-Key`. Everything but a `public` endpoint needs a key. See `Operation` for the rest.
    """
    operation = Operation(
        method=method,
        path=path,
        name=name,
        summary=summary,
        action=action,
        body=body,
        response=response,
        status=status,
        public=public,
        idempotent=idempotent,
        problems=problems,
        query=query,
        key_optional=key_optional,
        reads_itself=reads_itself,
    )
    OPERATIONS.append(operation)

    def register(handler: Handler) -> Handler:
        async def serve(req: func.HttpRequest) -> func.HttpResponse:
            return await _serve(operation, handler, req)

        serve.__name__ = name
        decorated = blueprint.route(
            route=PREFIX + path, methods=[method], auth_level=func.AuthLevel.ANONYMOUS
        )(serve)
        blueprint.function_name(name)(decorated)
        return handler

    return register


def authenticate(
    headers: Mapping[str, str], query: Mapping[str, str], config: Settings
) -> Principal:
    """The holder of the key in `x-functions-key` or `?code=`; raise `DeniedError` for a wrong one."""
    given = headers.get(KEY_HEADER) or query.get("code") or ""
    if not given:
        return ANONYMOUS
    for subject, key in (("key:default", config.api_key), ("key:master", config.master_key)):
        if key and hmac.compare_digest(given.encode(errors="surrogateescape"), key.encode()):
            return Principal(subject=subject, is_known=True)
    raise DeniedError("the key is not good", remedy="Use the function key: kpax env --json.")


def authorize(principal: Principal, action: str, *, public: bool) -> None:
    """Return when `principal` may do `action`; raise `DeniedError` otherwise. Deny by default."""
    if public or principal.is_known:
        return
    raise DeniedError(
        "a key is needed",
        where=action,
        remedy=f"Send it as {KEY_HEADER}; locally: kpax env --json shows it.",
    )


async def _serve(
    operation: Operation, handler: Handler, req: func.HttpRequest
) -> func.HttpResponse:
    request_id = "unknown"
    try:
        request_id = ports().ids.token(REQUEST_ID)
        return await _answer(operation, handler, req, request_id)
    except KpaxError as error:
        return problem_response(error, request_id)
    except Exception:
        log.exception(
            "request.crashed",
            extra={
                "request": request_id,
                "endpoint": operation.name,
                "see": "docs/running.md#request.crashed",
            },
        )
        return problem_response(
            KpaxError("the request failed here", remedy="Tell support the request id."),
            request_id,
        )


async def _answer(
    operation: Operation, handler: Handler, req: func.HttpRequest, request_id: str
) -> func.HttpResponse:
    config = settings()
    asked = cast("Mapping[str, str]", req.headers)
    headers = {key.lower(): value for key, value in asked.items()}
    given = dict(cast("Mapping[str, str]", req.params))
    params = dict(cast("Mapping[str, str]", req.route_params))
    raw = req.get_body() or b""
    if len(raw) > MAX_BODY and not operation.reads_itself:
        raise InvalidError(
            "the body is too large",
            remedy=f"At most {MAX_BODY} bytes.",
            slug="body-too-large",
            status=413,
            members={"max": MAX_BODY},
        )
    principal = authenticate(headers, given, config)
    authorize(principal, operation.action, public=operation.public)
    _limit_rate(operation, principal, headers, config)
    if not takes_json(headers.get("accept", "")):
        raise InvalidError(
            "the answer would not be accepted",
            remedy="Answers are JSON: send Accept: application/json, or no Accept.",
            slug="not-acceptable",
            status=406,
        )
    kind = None if operation.reads_itself else operation.body
    body = decode_body(kind, raw, headers.get("content-type", ""))
    key = headers.get("idempotency-key", "")
    request = Request(
        request_id=request_id,
        principal=principal,
        params=params,
        query={name: value for name, value in given.items() if name != "code"},
        headers=headers,
        body=body,
        raw=raw,
        ports=ports(),
        settings=config,
        idempotency_key=key,
    )
    _refuse_unknown_query(operation, request.query)
    if not operation.idempotent or (operation.key_optional and not key):
        return _respond(await handler(request), headers, request_id)
    if not key or len(key) > 200 or not key.isprintable():
        raise InvalidError(
            "an Idempotency-Key is needed",
            remedy="Send the header with 1 to 200 printable characters, new for each intention.",
            slug="idempotency-key-required",
        )
    stored = await idempotency.once(
        request.ports,
        scope=f"{principal.subject}\n{operation.name}\n{'/'.join(params.values())}",
        key=key,
        raw=raw,
        answer=lambda: _stored_answer(handler, request),
    )
    return func.HttpResponse(
        stored.text,
        status_code=stored.status,
        headers={
            **stored.headers,
            **_always(request_id),
            **({"Idempotent-Replayed": "true"} if stored.replayed else {}),
        },
        mimetype=stored.mimetype,
    )


async def _stored_answer(handler: Handler, request: Request) -> idempotency.Stored:
    try:
        reply = await handler(request)
    except KpaxError as error:
        # What passes is no answer to keep: under its key it would be repeated for ever.
        if error.problem_status >= 500 or error.kind is ErrorKind.THROTTLED:
            raise
        return idempotency.Stored(
            status=error.problem_status,
            text=json.dumps(problem(error, instance=request.request_id)),
            headers=_NEVER_KEPT,
            mimetype="application/problem+json",
        )
    return idempotency.Stored(
        status=reply.status,
        text=msgspec.json.encode(reply.body).decode(),
        headers=dict(reply.headers),
    )


def decode_body(kind: type | None, raw: bytes, content_type: str) -> object:
    """The body as a value of `kind`; every way to be wrong is an `InvalidError` with a pointer."""
    if kind is None:
        return None
    if not raw and issubclass(kind, msgspec.Struct) and not _must_say(kind):
        return kind()
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise InvalidError(
            "the content type is not JSON",
            remedy="Send Content-Type: application/json.",
            slug="unsupported-media-type",
            status=415,
        )
    value = decode_strictly(raw)
    try:
        return cast("object", msgspec.convert(value, type=kind, strict=True))
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `$")
        pointer = path.removesuffix("`").replace(".", "/").replace("[", "/").replace("]", "")
        raise InvalidError(
            "the request is not valid",
            where=pointer or "/",
            remedy=text,
            errors=(FieldError(pointer=pointer or "/", code="invalid", message=text),),
        ) from error


def _must_say(kind: type[msgspec.Struct]) -> bool:
    """Whether a body of this type has a field that must be there."""
    return any(field.required for field in msgspec.structs.fields(kind))


def problem_response(error: KpaxError, request_id: str) -> func.HttpResponse:
    """The problem document of an error as an HTTP answer."""
    headers = {**_always(request_id), **_NEVER_KEPT}
    retry = error.members.get("retry_after_s")
    if isinstance(retry, (int, float)):
        headers["Retry-After"] = str(max(1, round(retry)))
    return func.HttpResponse(
        json.dumps(problem(error, instance=request_id)),
        status_code=error.problem_status,
        headers=headers,
        mimetype="application/problem+json",
    )


def _respond(reply: Reply, headers: Mapping[str, str], request_id: str) -> func.HttpResponse:
    text = msgspec.json.encode(reply.body)
    etag = f'"{hashlib.sha256(text).hexdigest()[:32]}"'
    out = {
        "ETag": etag,
        "Cache-Control": "private, no-cache",
        **_always(request_id),
        **reply.headers,
    }
    if reply.status == 200 and _has(headers.get("if-none-match", ""), out["ETag"]):
        return func.HttpResponse(status_code=304, headers=out)
    return func.HttpResponse(
        text, status_code=reply.status, headers=out, mimetype="application/json"
    )


_NEVER_KEPT = {"Cache-Control": "no-store"}


def _has(header: str, etag: str) -> bool:
    """True when an `If-None-Match` names this version; a proxy may have marked it as weak."""
    return etag in [entry.strip().removeprefix("W/") for entry in header.split(",")]


def _always(request_id: str) -> dict[str, str]:
    return {
        "X-Request-Id": request_id,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Strict-Transport-Security": "max-age=31536000",
    }


def _refuse_unknown_query(operation: Operation, query: Mapping[str, str]) -> None:
    unknown = sorted(set(query) - set(operation.query))
    if unknown and not operation.reads_itself:
        known = ", ".join(operation.query) or "none"
        raise InvalidError(
            "a query parameter is not known",
            remedy=f"Known here: {known}.",
            errors=tuple(
                FieldError(pointer=f"/{name[:64]}", code="unknown", message="not a parameter")
                for name in unknown
            ),
        )


def _limit_rate(
    operation: Operation, principal: Principal, headers: Mapping[str, str], config: Settings
) -> None:
    """On public endpoints a bucket for each key, and for callers without one for each network."""
    if not operation.public:
        return
    if principal.is_known:
        callers.limit(principal.subject, per_min=config.key_rate_per_min)
        return
    address = callers.address_of(headers, hops=config.forwarded_hops)
    callers.limit(callers.neighbourhood(address), per_min=config.route_rate_per_min)
