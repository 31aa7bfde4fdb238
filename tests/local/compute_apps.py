"""Small applications that the launcher of space processes starts in tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from local.space_app.app import make_app

if TYPE_CHECKING:
    from local.space_app.settings import InstanceConfig

_taken: list[bytearray] = []


def simple(config: InstanceConfig) -> web.Application:
    """Healthy at once, without vault and database."""

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"instance": config.instance, "zone": config.zone})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    return app


def slow(config: InstanceConfig) -> web.Application:
    """Healthy only when it was asked ten times."""
    asked = 0

    async def healthz(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        status = 200 if asked > 10 else 503
        return web.json_response({"instance": config.instance}, status=status)

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    return app


def greedy(config: InstanceConfig) -> web.Application:
    """The space app itself, with one request more: to take memory."""

    async def take(request: web.Request) -> web.Response:
        size = range(int(request.query["mib"]))
        _taken.extend(bytearray(b"x") * 2**20 for _ in size)
        return web.json_response({"mib": len(_taken)})

    app = make_app(config)
    app.router.add_post("/take", take)
    return app


def sick_when_told(config: InstanceConfig) -> web.Application:
    """Healthy unless its vault's address says otherwise."""

    async def healthz(request: web.Request) -> web.Response:
        status = 503 if "sick" in config.vault_uri else 200
        return web.json_response({"instance": config.instance}, status=status)

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    return app
