"""The public HTTP API as typed calls: how every command reaches a running system.

Where that system is comes from the environment (`KPAX_API_URL`, `KPAX_API_KEY`), or from the
resolver that `kpax.py` registers for the local stack. This module knows neither.
"""

from __future__ import annotations

import http.client
import json
import os
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from spaces.errors import (
    DamagedError,
    DeniedError,
    Exit,
    FieldError,
    InvalidError,
    KpaxError,
    NotFoundError,
    RefusedError,
    ThrottledError,
    UnreachableError,
    WrongKeyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

type Body = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a running system is; connection strings only where the caller may send by itself."""

    url: str
    function_key: str = field(repr=False)
    bus_connection: str | None = field(default=None, repr=False)
    home: str | None = None


_resolvers: list[Callable[[], Endpoint]] = []


def use(resolver: Callable[[], Endpoint]) -> None:
    """Register what finds the running system; it raises `UnreachableError` when none runs."""
    _resolvers[:] = [resolver]


def endpoint() -> Endpoint:
    """Where the running system is, or `UnreachableError` with the command that starts one."""
    url = os.environ.get("KPAX_API_URL")
    if url:
        return Endpoint(
            url=url.rstrip("/"),
            function_key=os.environ.get("KPAX_API_KEY", ""),
            bus_connection=os.environ.get("KPAX_BUS_CONNECTION"),
        )
    if not _resolvers:
        raise not_running()
    return _resolvers[0]()


def not_running() -> UnreachableError:
    """The error of a command that needs a running stack."""
    return UnreachableError("the stack is not running", remedy="Start it: kpax up --detach.")


def connect() -> Client:
    """A client of the running system."""
    return Client(endpoint())


class Client:
    """JSON requests under `/api/v1`; every failure is a `KpaxError` with the problem's slug."""

    def __init__(self, where: Endpoint, *, timeout_s: float = 60.0) -> None:
        self._where = where
        self._timeout_s = timeout_s

    def get(self, path: str) -> Body:
        """GET a path below `/api/v1`."""
        return self.request("GET", path)

    def post(self, path: str, body: object, *, idempotency_key: str | None = None) -> Body:
        """POST a JSON body; a key is made where none is given, so that a retry is safe."""
        headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
        return self.request("POST", path, body=body, headers=headers)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object | None = None,
        headers: dict[str, str] | None = None,
    ) -> Body:
        """One request; raises the error that the problem document stands for."""
        status, raw = self.raw(method, path, body=body, headers=headers)
        try:
            value: object = json.loads(raw) if raw else {}
        except json.JSONDecodeError as error:
            raise UnreachableError(
                f"the answer is not JSON (status {status})", where=f"{method} {path}"
            ) from error
        document: Body = value if isinstance(value, dict) else {"value": value}  # pyright: ignore[reportUnknownVariableType]
        if status >= 400:
            raise error_of(document, status)
        return document

    def raw(
        self,
        method: str,
        path: str,
        *,
        body: object | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """One request; answers the status and the bytes, whatever they say."""
        parts = urlsplit(self._where.url)
        kind = (
            http.client.HTTPSConnection
            if parts.scheme == "https"
            else http.client.HTTPConnection
        )
        connection = kind(parts.netloc, timeout=self._timeout_s)
        send = {"x-functions-key": self._where.function_key, **(headers or {})}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            send["Content-Type"] = "application/json"
        try:
            connection.request(method, f"{parts.path}/api/v1{path}", body=data, headers=send)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(
                f"nobody answers at {self._where.url}",
                where=str(error) or type(error).__name__,
                remedy="Look: kpax status. Start what is missing: kpax up --detach.",
            ) from error
        finally:
            connection.close()


def error_of(document: Body, status: int) -> KpaxError:
    """The error that a problem document stands for; its exit code follows the status."""
    kinds: dict[int, type[KpaxError]] = {
        400: InvalidError, 401: DeniedError, 403: DeniedError, 404: NotFoundError, 413: InvalidError,
        415: InvalidError, 422: RefusedError, 503: UnreachableError,
    }  # fmt: skip
    what, slug = str(document.get("title", f"status {status}")), str(document.get("type", ""))
    slug = slug.rsplit("/", 1)[-1] or "internal"
    if status == 429:
        wait = document.get("retry_after_s")
        return ThrottledError(
            what, retry_after_s=float(wait) if isinstance(wait, (int, float)) else 1
        )
    standard = {"type", "title", "status", "detail", "errors", "instance"}
    kind = kinds.get(status, RefusedError if status < 500 else KpaxError)
    kind = {error.slug: error for error in (DamagedError, WrongKeyError)}.get(slug, kind)
    return kind(
        what,
        remedy=_beyond(what, str(document.get("detail", ""))),
        slug=slug,
        status=status,
        errors=_field_errors(document.get("errors")),
        members={key: value for key, value in document.items() if key not in standard},
    )


def _beyond(what: str, detail: str) -> str:
    """What a detail says beyond the title, which many repeat."""
    if detail.lower().startswith(what.lower()):
        return detail[len(what) :].lstrip(" .:")
    return detail


def _field_errors(value: object) -> tuple[FieldError, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(
        FieldError(
            pointer=str(item.get("pointer", "")),  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            code=str(item.get("code", "")),  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
            message=str(item.get("message", "")),  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        )
        for item in value  # pyright: ignore[reportUnknownVariableType]
        if isinstance(item, dict)
    )


def space_path(space: str, *rest: str) -> str:
    """The path of a space by id or name."""
    return "/".join(["/spaces", quote(space, safe=""), *rest])


def wait_for_operation(
    client: Client,
    op_id: str,
    *,
    timeout_s: float,
    progress: Callable[[Body], None],
) -> Body | None:
    """The ended operation, or None when `timeout_s` passes first; `progress` sees each change.

    A part that does not answer for a moment is asked again until the time is over.
    """
    deadline = time.monotonic() + timeout_s
    shown: Body = {}
    while True:
        try:
            current = client.get(f"/operations/{quote(op_id, safe='')}")
        except UnreachableError:
            if time.monotonic() >= deadline:
                raise
            current = shown
        if current != shown:
            progress(current)
            shown = current
        if current.get("status") in {"succeeded", "failed", "canceled", "needsOperator"}:
            return current
        if time.monotonic() >= deadline:
            return None
        time.sleep(0.2)


def exit_of(operation: Body) -> Exit:
    """The exit code of an ended operation."""
    match operation.get("status"):
        case "succeeded":
            return Exit.DONE
        case "needsOperator":
            return Exit.NEEDS_PERSON
        case _:
            return _EXITS.get(str(operation.get("error_kind")), Exit.FAILED)


_EXITS = {error.slug: error.exit for error in (DamagedError, WrongKeyError)}
