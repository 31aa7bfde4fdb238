"""The console's pages: server-rendered, behind the key, under a policy without inline anything."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import mimetypes
from pathlib import Path
from typing import TYPE_CHECKING, cast

import azure.functions as func

from console import fleet, views
from spaces import html
from spaces.errors import KpaxError
from spaces.html import Pages
from spaces.settings import settings
from spaces.wiring import ports

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spaces.settings import Settings

log = logging.getLogger("kpax.console")
blueprint = func.Blueprint()

HERE = Path(__file__).resolve().parent
STATIC = {path.name: path for path in sorted((HERE / "static").iterdir())}
PAGES = Pages(HERE / "pages")
ADDRESS = "/console"


@blueprint.function_name("console_fleet")
@blueprint.route(route="console", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def fleet_page(req: func.HttpRequest) -> func.HttpResponse:
    """The fleet page; with `?code=` the key is taken into a cookie, and out of the address."""
    config = settings()
    answer = html.gate(req, config, now=ports().clock.now(), path=ADDRESS)
    return answer or PAGES.answer("fleet.html", {"fleet": await _fleet(config)}, here=ADDRESS)


@blueprint.function_name("console_fleet_fragment")
@blueprint.route(
    route="console/fragments/fleet", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS
)
async def fleet_fragment(req: func.HttpRequest) -> func.HttpResponse:
    """The live part of the page: 304 while nothing has changed."""
    config = settings()
    if not html.is_open(req, config, now=ports().clock.now()):
        return func.HttpResponse(status_code=401, headers=html.HEADERS)
    try:
        shown = await _fleet(config)
    except KpaxError as error:
        log.warning("console.unreachable", extra={"reason": str(error)})
        return func.HttpResponse(status_code=503, headers=html.HEADERS)
    text = PAGES.render("fleet_part.html", {"fleet": shown})
    etag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
    headers = {**html.HEADERS, "ETag": etag, "X-Poll-Ms": str(shown.poll_ms)}
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
        return func.HttpResponse(status_code=404, headers=html.HEADERS)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return func.HttpResponse(
        await asyncio.to_thread(path.read_bytes), headers=html.HEADERS, mimetype=kind
    )


async def _fleet(config: Settings) -> views.Fleet:
    doors = ports()
    spaces = await fleet.spaces(doors)
    shown = await asyncio.gather(*(fleet.view(doors, config, one) for one in spaces))
    return views.fleet(shown, now=doors.clock.now())
