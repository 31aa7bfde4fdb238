"""How the service words what it answers: errors, attributes, links to the next page."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.key_vault.store import KEPT_DELETED_DAYS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local.key_vault.store import Item

_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
_PAGE = 25


class VaultError(Exception):
    """An answer that is an error: status, code and text as the service has them."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers: dict[str, str] = {}

    def response(self) -> web.Response:
        """The error as the service's JSON."""
        body = {"error": {"code": self.code, "message": str(self)}}
        return web.json_response(body, status=self.status, headers=self.headers)


def bad_parameter(message: str) -> VaultError:
    """400 BadParameter."""
    return VaultError(400, "BadParameter", message)


def checked_name(name: str) -> str:
    """The name, if a vault would take it."""
    if not _NAME.fullmatch(name):
        raise bad_parameter(f"The name {name[:130]!r} does not match ^[0-9a-zA-Z-]{{1,127}}$.")
    return name


async def json_object(request: web.Request) -> dict[str, Any]:
    """The request's body, which must be a JSON object."""
    try:
        body = await request.json()
    except ValueError:
        raise bad_parameter("The request's body is not JSON.") from None
    if not isinstance(body, dict):
        raise bad_parameter("The request's body is not a JSON object.")
    return body


def attributes_from(body: dict[str, Any], old: dict[str, Any] | None = None) -> dict[str, Any]:
    """Enabled, nbf and exp as the caller wants them, over what was there."""
    given = body.get("attributes") or {}
    if not isinstance(given, dict):
        raise bad_parameter("The attributes are not an object.")
    chosen = dict(old or {"enabled": True})
    for field, kind in (("enabled", bool), ("nbf", int), ("exp", int)):
        if given.get(field) is not None:
            if type(given[field]) is not kind:
                raise bad_parameter(f"The attribute {field} is not of type {kind.__name__}.")
            chosen[field] = given[field]
    return chosen


def tags_from(body: dict[str, Any], old: dict[str, str] | None = None) -> dict[str, str] | None:
    """The caller's tags, or those that were there."""
    tags = body.get("tags")
    if tags is None:
        return old
    if not isinstance(tags, dict) or not all(isinstance(v, str) for v in tags.values()):
        raise bad_parameter("The tags are not an object of texts.")
    return tags


def shown_attributes(item: Item) -> dict[str, Any]:
    """A version's attributes as the service shows them."""
    return {
        **item.attributes,
        "created": item.created,
        "updated": item.updated,
        "recoveryLevel": "Recoverable+Purgeable",
        "recoverableDays": KEPT_DELETED_DAYS,
    }


def shown_deletion(base: str, item: Item, deleted_at: int) -> dict[str, Any]:
    """The fields that a deleted thing has beside its own."""
    return {
        "recoveryId": f"{base}deleted{item.kind}/{item.name}",
        "deletedDate": deleted_at,
        "scheduledPurgeDate": deleted_at + KEPT_DELETED_DAYS * 86_400,
    }


def page(
    request: web.Request,
    base: str,
    items: Sequence[Item],
    show: Callable[[Item], dict[str, Any]],
) -> web.Response:
    """A page of a list, with the address of the next one while there is more."""
    size = _whole_number(request.query.get("maxresults", str(_PAGE)), 1, _PAGE)
    start = 0
    if token := request.query.get("$skiptoken"):
        try:
            start = _whole_number(base64.urlsafe_b64decode(token).decode(), 0, len(items))
        except ValueError:
            raise bad_parameter("The skip token is not one of this service.") from None
    link = None
    if start + size < len(items):
        token = base64.urlsafe_b64encode(str(start + size).encode()).decode()
        version = request.query["api-version"]
        link = (
            f"{base.rstrip('/')}{request.path}?api-version={version}"
            f"&$skiptoken={token}&maxresults={size}"
        )
    shown = [show(item) for item in items[start : start + size]]
    return web.json_response({"value": shown, "nextLink": link})


def _whole_number(text: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdecimal() or not low <= int(text) <= high:
        raise bad_parameter(f"{text[:20]!r} is not a number from {low} to {high}.")
    return int(text)
