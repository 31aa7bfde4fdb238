"""The console's pages: server-rendered, behind the key, under a policy without inline anything."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import hmac
import logging
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, cast

import azure.functions as func
import jinja2

from console import fleet, views
from spaces import session
from spaces.errors import KpaxError
from spaces.settings import settings
from spaces.wiring import ports

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spaces.settings import Settings

log = logging.getLogger("kpax.console")
blueprint = func.Blueprint()

HERE = Path(__file__).resolve().parent
STATIC = {path.name: path for path in sorted((HERE / "static").iterdir())}
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


@blueprint.function_name("console_fleet")
@blueprint.route(route="console", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def fleet_page(req: func.HttpRequest) -> func.HttpResponse:
    """The fleet page; with `?code=` the key is taken into a cookie, and out of the address."""
    config, now = settings(), ports().clock.now()
    code = cast("Mapping[str, str]", req.params).get("code")
    if code is not None:
        if not _is_key(code, config):
            return _locked("This key is not good")
        secure = req.url.startswith("https:")
        given = session.cookie(config.api_key, now=now, secure=secure)
        return func.HttpResponse(
            status_code=303, headers={**HEADERS, "Location": "/console", "Set-Cookie": given}
        )
    if not _is_open(req, config):
        return _locked("The console needs its key")
    return _html("fleet.html", {"fleet": await _fleet(config)})


@blueprint.function_name("console_fleet_fragment")
@blueprint.route(
    route="console/fragments/fleet", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS
)
async def fleet_fragment(req: func.HttpRequest) -> func.HttpResponse:
    """The live part of the page: 304 while nothing has changed."""
    config = settings()
    if not _is_open(req, config):
        return func.HttpResponse(status_code=401, headers=HEADERS)
    try:
        shown = await _fleet(config)
    except KpaxError as error:
        log.warning("console.unreachable", extra={"reason": str(error)})
        return func.HttpResponse(status_code=503, headers=HEADERS)
    text = _render("fleet_part.html", {"fleet": shown})
    etag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": etag, "X-Poll-Ms": str(shown.poll_ms)}
    asked = cast("Mapping[str, str]", req.headers)
    if asked.get("If-None-Match", asked.get("if-none-match")) == etag:
        return func.HttpResponse(status_code=304, headers=headers)
    return func.HttpResponse(text, headers=headers, mimetype="text/html", charset="utf-8")


@blueprint.function_name("console_static")
@blueprint.route(
    route="console/static/{name}", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS
)
async def static(req: func.HttpRequest) -> func.HttpResponse:
    """The style sheet and the script; nothing secret, so without the key."""
    path = STATIC.get(cast("Mapping[str, str]", req.route_params).get("name", ""))
    if path is None:
        return func.HttpResponse(status_code=404, headers=HEADERS)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return func.HttpResponse(
        await asyncio.to_thread(path.read_bytes), headers=HEADERS, mimetype=kind
    )


async def _fleet(config: Settings) -> views.Fleet:
    doors = ports()
    spaces = await fleet.spaces(doors)
    shown = await asyncio.gather(*(fleet.view(doors, config, one) for one in spaces))
    return views.fleet(shown, now=doors.clock.now())


def _is_key(code: str, config: Settings) -> bool:
    keys = [key for key in (config.api_key, config.master_key) if key]
    return sum(hmac.compare_digest(code.encode(), key.encode()) for key in keys) > 0


def _is_open(req: func.HttpRequest, config: Settings) -> bool:
    headers = {k.lower(): v for k, v in cast("Mapping[str, str]", req.headers).items()}
    if "x-functions-key" in headers:
        return _is_key(headers["x-functions-key"], config)
    return session.is_good(headers.get("cookie", ""), config.api_key, now=ports().clock.now())


def _locked(title: str) -> func.HttpResponse:
    return _html("locked.html", {"title": title}, status=401)


def _html(page: str, values: Mapping[str, object], *, status: int = 200) -> func.HttpResponse:
    return func.HttpResponse(
        _render(page, values),
        status_code=status,
        headers=HEADERS,
        mimetype="text/html",
        charset="utf-8",
    )


def _render(page: str, values: Mapping[str, object]) -> str:
    return _templates().get_template(page).render(values)


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
