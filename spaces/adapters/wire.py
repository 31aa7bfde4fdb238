"""One HTTP session under all Azure SDK clients of the process, and what their errors mean.

The clients are made for any number of accounts and vaults, the connections are shared. Every
request is counted where it leaves, so that retries and pages count too.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import ssl
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
)
from azure.core.pipeline.transport import AioHttpTransport, AsyncHttpTransport

from spaces import errors, telemetry

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path
    from types import TracebackType

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
KEPT_IDLE_S = 4.0
"""Less than any server keeps an idle connection (Node: 5 s): a POST must not meet one that ends."""
BUSY_S = 2.0
"""How long to stay away from a busy service that does not say for how long."""


class Wire:
    """The session; made at the first request, on the loop that makes it."""

    def __init__(self, *, ca_file: Path | None = None) -> None:
        self._ca_file = ca_file
        self._inner: AioHttpTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def transport(self, counter: str | None = None) -> AsyncHttpTransport:
        """A transport for one client; what it sends is counted under `counter`."""
        return _Counted(self, counter)

    def opened(self) -> AioHttpTransport:
        """The transport that all others send through.

        Raises `RuntimeError` on another event loop than the one it was opened on: connections
        belong to their loop, and a call from elsewhere would hang.
        """
        loop = asyncio.get_running_loop()
        if self._inner is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    ssl=_trust(self._ca_file), limit=200, keepalive_timeout=KEPT_IDLE_S
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,  # a proxy of the environment would get requests for 127.0.0.1
            )
            self._inner = AioHttpTransport(
                session=session,
                session_owner=True,
                connection_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
            )
            self._loop = loop
        if self._loop is not loop:
            raise RuntimeError("these adapters were opened on another event loop")
        return self._inner

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        inner, self._inner = self._inner, None
        if inner is not None:
            await inner.close()


class _Counted(AsyncHttpTransport):
    def __init__(self, wire: Wire, counter: str | None) -> None:
        self._wire = wire
        self._counter = counter

    async def send(self, request: Any, **kwargs: Any) -> Any:  # noqa: ANN401 — both generations of azure-core requests
        if self._counter is not None:
            telemetry.count(self._counter)
        return await self._wire.opened().send(request, **kwargs)

    async def open(self) -> None:
        """Nothing: the session is shared."""

    async def close(self) -> None:
        """Nothing: the session outlives this client."""

    async def __aenter__(self) -> _Counted:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        """Nothing: the session outlives this client."""


def _trust(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=str(ca_file))
    return context


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine."""
    return (urlsplit(url).hostname or "") in {"127.0.0.1", "localhost", "::1"}


RAISED = (
    AzureError,
    aiohttp.ClientError,
    OSError,
    http.client.HTTPException,
    json.JSONDecodeError,  # the stacks client, given an error that is not JSON
)
"""All that an SDK call raises about the world; anything else is a defect and passes."""


@contextlib.contextmanager
def translated(
    what: str, *, where: str = "", lost: type[errors.KpaxError] = errors.TransientError
) -> Generator[None]:
    """Turn what an SDK raises inside into an error of ours; see `classify`."""
    try:
        yield
    except RAISED as error:
        raise classify(error, what, where=where, lost=lost) from error


def was_not_sent(error: BaseException) -> bool:
    """True only where the connection was never made, so that the request cannot have arrived.

    azure-core calls every connection error of aiohttp a "request error", also a connection that
    broke after the request was on its way.
    """
    cause = error.__cause__ or getattr(error, "inner_exception", None)
    return isinstance(error, ServiceRequestTimeoutError) or (
        isinstance(error, ServiceRequestError)
        and isinstance(cause, aiohttp.ClientConnectorError)
    )


def classify(
    error: Exception,
    what: str,
    *,
    where: str = "",
    lost: type[errors.KpaxError] = errors.TransientError,
) -> errors.KpaxError:
    """The error of ours that says what an SDK's error means; raise it `from` that one.

    `lost` is for an answer that did not come or says nothing: `TransientError` where the call may
    be repeated, `UnknownError` where somebody must look first.
    """
    if was_not_sent(error):
        return errors.TransientError(
            f"{what}: no connection", where=where, remedy="Nothing was sent; try again."
        )
    status = error.status_code if isinstance(error, HttpResponseError) else None
    if status is None or not isinstance(error, HttpResponseError):
        return lost(f"{what}: the answer was lost ({type(error).__name__})", where=where)
    return _by_status(error, status, f"{what}: {_brief(error)}", where=where, lost=lost)


def _by_status(  # noqa: PLR0911 — a table
    error: HttpResponseError,
    status: int,
    what: str,
    *,
    where: str,
    lost: type[errors.KpaxError],
) -> errors.KpaxError:
    wait_s = retry_after_s(error)
    match status:
        case 401 | 403:
            return errors.DeniedError(
                what, where=where, remedy="Check the credential and its role assignments."
            )
        case 404:
            return errors.NotFoundError(what, where=where)
        case 409:
            return errors.ConflictError(what, where=where)
        case 412:
            return errors.LostRaceError(what, where=where)
        case 429:
            return errors.ThrottledError(what, where=where, retry_after_s=wait_s or BUSY_S)
        case 503 if wait_s is not None or code_of(error) == "ServerBusy":
            return errors.ThrottledError(what, where=where, retry_after_s=wait_s or BUSY_S)
        case 408:
            return lost(what, where=where)
        case _ if 400 <= status < 500:
            return errors.InvalidError(what, where=where)
        case _:
            return lost(what, where=where)


def retry_after_s(error: HttpResponseError) -> float | None:
    """Seconds that the answer asks to wait, where it does."""
    return seconds(_header(error, "Retry-After"))


def seconds(text: str | None) -> float | None:
    """A Retry-After in seconds; the date form, which none of our services use, reads as None."""
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None


def code_of(error: HttpResponseError) -> str | None:
    """The service's own name for the error, where the answer carries one."""
    code = getattr(error, "error_code", None) or getattr(error.error, "code", None)
    code = code or _header(error, "x-ms-error-code") or _told(error)
    return str(getattr(code, "value", code)) if code is not None else None


def _header(error: HttpResponseError, name: str) -> str | None:
    headers: Any = getattr(error.response, "headers", None)
    return headers.get(name) if headers is not None else None


def _told(error: HttpResponseError) -> str | None:
    """The code out of the body: some calls of the tables client raise before they decode it."""
    try:
        body: Any = json.loads(error.response.text()) if error.response is not None else None  # pyright: ignore[reportAttributeAccessIssue]
    except (ValueError, AttributeError, AzureError):
        return None
    told = body.get("odata.error") or body.get("error") if isinstance(body, dict) else None
    return told.get("code") if isinstance(told, dict) else None


def _brief(error: HttpResponseError) -> str:
    lines = str(error.message or error).strip().splitlines()
    code = code_of(error)
    first = lines[0][:200] if lines else type(error).__name__
    return f"{first} [{error.status_code} {code}]" if code else f"{first} [{error.status_code}]"
