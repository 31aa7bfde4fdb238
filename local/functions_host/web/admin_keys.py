"""The calls that list, set and delete keys, below `/admin/host` and `/admin/functions/{name}`.

`keys` is another name of `functionkeys`. Answers carry `links` as the real host's do.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.functions_host.web.keys import HOST, SYSTEM, FixedKeyError, scope_of

if TYPE_CHECKING:
    from collections.abc import Container

    from local.functions_host.web.keys import Keys

_OF_HOST = {"keys": HOST, HOST: HOST, SYSTEM: SYSTEM}


def key_scope(parts: list[str], functions: Container[str]) -> tuple[str, str | None] | None:
    """Scope and name of the keys that the path (below `/admin`, lower case) is about."""
    match parts:
        case ["host", kind] if kind in _OF_HOST:
            return _OF_HOST[kind], None
        case ["host", kind, name] if kind in _OF_HOST:
            return _OF_HOST[kind], name
        case ["functions", function, "keys"] if function in functions:
            return scope_of(function), None
        case ["functions", function, "keys", name] if function in functions:
            return scope_of(function), name
        case _:
            return None


async def answer_keys(
    keys: Keys, request: web.BaseRequest, scope: str, name: str | None
) -> web.Response:
    """The answer to a call about the keys of a scope, or about one of them."""
    try:
        if name is None:
            return _listed(keys, request, scope)
        if request.method in ("POST", "PUT"):
            return await _changed(keys, request, scope, name)
        if request.method == "DELETE":
            return _deleted(keys, scope, name)
    except FixedKeyError as error:
        text = f"The key {str(error)!r} belongs to the stack's home."
        return web.Response(status=409, text=text)
    value = keys.get(scope, name) if request.method == "GET" else None
    return web.Response(status=404) if value is None else _one(request, name, value)


def _listed(keys: Keys, request: web.BaseRequest, scope: str) -> web.Response:
    if request.method != "GET":
        return web.Response(status=404)
    found = [{"name": name, "value": value} for name, value in keys.of(scope).items()]
    return _json(request, {"keys": found})


async def _changed(keys: Keys, request: web.BaseRequest, scope: str, name: str) -> web.Response:
    wanted = _value(await request.read()) if request.method == "PUT" else None
    if request.method == "PUT" and wanted is None:
        return web.Response(status=400, text="Invalid key value")
    value, is_new = keys.put(scope, name, wanted)
    return _one(request, name, value, status=201 if is_new else 200)


def _deleted(keys: Keys, scope: str, name: str) -> web.Response:
    if name.startswith("_"):
        return web.Response(status=400, text="Invalid key name.")
    return web.Response(status=204 if keys.delete(scope, name) else 404)


def _value(body: bytes) -> str | None:
    try:
        value = json.loads(body)["value"]
    except (ValueError, TypeError, KeyError):
        return None
    return value if isinstance(value, str) and value else None


def _one(request: web.BaseRequest, name: str, value: str, *, status: int = 200) -> web.Response:
    return _json(request, {"name": name, "value": value}, status=status)


def _json(request: web.BaseRequest, body: dict[str, Any], *, status: int = 200) -> web.Response:
    links = [{"rel": "self", "href": str(request.url.with_query(None))}]
    return web.json_response(body | {"links": links}, status=status)
