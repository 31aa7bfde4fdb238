"""What our HTML pages have in common: the frame, the policy, and the key that opens them.

A page of any room is rendered on the server, autoescaped, and served without inline script or
style. `?code=` takes the key into a cookie and out of the address; a key in the header opens too.
"""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import parse_qsl, urlencode, urlsplit

import azure.functions as func
import jinja2

from spaces import session

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from spaces.settings import Settings

SHARED = Path(__file__).resolve().parent / "pages"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-cache",
}
NAVIGATION = (
    ("/console", "Fleet"),
    ("/console/routing", "Routing"),
    ("/console/compliance", "Compliance"),
)
"""The pages that every page links to, in this order."""


class Pages:
    """The templates of a room, in the frame that all rooms share."""

    def __init__(self, folder: Path) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader([folder, SHARED]),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def render(self, name: str, values: Mapping[str, object], *, here: str = "") -> str:
        """The text of a page; `here` is its address in the navigation."""
        shown = {"navigation": NAVIGATION, "here": here, **values}
        return self._templates.get_template(name).render(shown)

    def answer(
        self, name: str, values: Mapping[str, object], *, here: str = "", status: int = 200
    ) -> func.HttpResponse:
        """A page as an HTTP answer."""
        return func.HttpResponse(
            self.render(name, values, here=here),
            status_code=status,
            headers=HEADERS,
            mimetype="text/html",
            charset="utf-8",
        )


def query_of(req: func.HttpRequest) -> list[tuple[str, str]]:
    """The parameters in the address as they stand there: blank and repeated ones too.

    `req.params` is no source for that: the platform leaves blank ones out and joins the others.
    """
    return parse_qsl(urlsplit(req.url).query, keep_blank_values=True)


def moved(path: str, query: Iterable[tuple[str, str]], **headers: str) -> func.HttpResponse:
    """See another address of ours; commas stay readable in it."""
    text = urlencode(list(query), safe=",:=")
    where = f"{path}?{text}" if text else path
    return func.HttpResponse(status_code=303, headers={**HEADERS, "Location": where, **headers})


def gate(
    req: func.HttpRequest, config: Settings, *, now: datetime, path: str
) -> func.HttpResponse | None:
    """None where the page may be shown; else the answer: taking the key, or asking for it.

    `path` is the page's own address.
    """
    query = query_of(req)
    codes = [value for name, value in query if name == "code"]
    if codes:
        if not _is_key(codes[0], config):
            return locked("This key is not good")
        given = session.cookie(config.api_key, now=now, secure=req.url.startswith("https:"))
        rest = [pair for pair in query if pair[0] != "code"]
        return moved(path, rest, **{"Set-Cookie": given})
    return None if is_open(req, config, now=now) else locked("The console needs its key")


def is_open(req: func.HttpRequest, config: Settings, *, now: datetime) -> bool:
    """True where a request carries a key or a running session."""
    headers = {k.lower(): v for k, v in cast("Mapping[str, str]", req.headers).items()}
    if "x-functions-key" in headers:
        return _is_key(headers["x-functions-key"], config)
    return session.is_good(headers.get("cookie", ""), config.api_key, now=now)


def locked(title: str) -> func.HttpResponse:
    """The page that asks for the key."""
    return Pages(SHARED).answer("locked.html", {"title": title}, status=401)


def _is_key(code: str, config: Settings) -> bool:
    keys = [key for key in (config.api_key, config.master_key) if key]
    return sum(hmac.compare_digest(code.encode(), key.encode()) for key in keys) > 0
