"""The page for people: what the space holds, and a form for each kind of thing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from aiohttp import web

if TYPE_CHECKING:
    from local.space_app.problems import ProblemError
    from local.space_app.settings import InstanceConfig, Settings

SHOWN = 20

_FOLDER = Path(__file__).parent
_TEMPLATE = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
    (_FOLDER / "page.html").read_text(encoding="utf-8")
)
_STYLE = (_FOLDER / "style.css").read_text(encoding="utf-8")
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def page(
    settings: Settings,
    config: InstanceConfig,
    latest: dict[str, tuple[int, list[dict[str, Any]]]],
    refused: ProblemError | None,
) -> web.Response:
    """The page, with the reason on top when a form was refused."""
    text = _TEMPLATE.render(
        settings=settings,
        config=config,
        latest=latest,
        refused=refused,
        device_names={row["id"]: row["name"] for row in latest["devices"][1]},
    )
    return web.Response(
        text=text,
        content_type="text/html",
        headers=_HEADERS,
        status=refused.status if refused else 200,
    )


async def style(request: web.Request) -> web.Response:
    """The one style sheet."""
    return web.Response(text=_STYLE, content_type="text/css")
