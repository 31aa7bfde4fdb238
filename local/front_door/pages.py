"""The pages the front door answers itself, when no space does."""

from __future__ import annotations

import html

from aiohttp import web

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 18px/1.5 system-ui, sans-serif; max-width: 38rem; margin: 16vh auto 0; padding: 0 1rem }}
h1 {{ font-size: 1.6rem; margin: 0 0 .5rem }}
p {{ margin: 0 0 1rem }}
code {{ overflow-wrap: anywhere }}
small {{ opacity: .7 }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{text}</p>
<p><small>{status} · front door of the local KPAX stack</small></p>
</body>
</html>
"""


def no_such_space(host: str) -> web.Response:
    """404: nothing is routed under this name."""
    return _page(
        404,
        "No space here",
        f"There is no space at <code>{html.escape(host[:100])}</code>. "
        "A space is found at <code>name.cluster.localhost</code>.",
    )


def bad_request() -> web.Response:
    """400: the request's target is no path."""
    return _page(400, "Bad request", "The target of the request is not a path.")


def suspended() -> web.Response:
    """503: the route is switched off."""
    return _page(
        503,
        "This space is suspended",
        "Its data is kept. It answers again as soon as its subscription is resumed.",
    )


def no_healthy_instance() -> web.Response:
    """503: every instance is down or still starting."""
    return _page(
        503,
        "No healthy instance",
        "None of this space's instances is healthy now. If it was just opened or restored, "
        "it will answer in a moment.",
        retry_after_s=1,
    )


def bad_gateway() -> web.Response:
    """502: the connection to the instance broke, and the request must not be sent twice."""
    return _page(
        502,
        "The connection to the instance broke",
        "It is not known whether the request was carried out. Look before you send it again.",
    )


def gateway_timeout() -> web.Response:
    """504: the instance does not answer."""
    return _page(
        504,
        "The instance did not answer in time",
        "It is not known whether the request was carried out. Look before you send it again.",
    )


def _page(
    status: int, title: str, text: str, *, retry_after_s: int | None = None
) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    return web.Response(
        text=_PAGE.format(status=status, title=title, text=text),
        status=status,
        content_type="text/html",
        headers=headers,
    )
