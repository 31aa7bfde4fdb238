"""The calls of one vault: secrets, keys, and what both have in common.

Not offered, and answered 501: backup and restore of single items, import, release, rotation
policies, certificates. Purge works at once (no purge protection here).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.key_vault import answers, keys
from local.key_vault.answers import VaultError, bad_parameter
from local.key_vault.store import DeletedNameError, Item, Kind
from local.key_vault.vaults import Vault

if TYPE_CHECKING:
    from local.key_vault.store import Store

VAULT = web.RequestKey("vault", Vault)
_SECRET_CHARACTERS = 25_000
_OPERATIONS = "encrypt|decrypt|wrapkey|unwrapkey|sign"
_WORDS = {Kind.SECRET: "secret", Kind.KEY: "key"}


class Handlers:
    """Answers for all vaults; which one is meant stands in the request."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[web.RouteDef]:
        """Every path of the service that is offered."""
        found = [
            web.put("/secrets/{name}", self._set_secret),
            web.post("/keys/{name}/create", self._create_key),
            web.post("/keys/{name}/rotate", self._rotate_key),
            web.post("/keys/{name}/{version}/verify", self._verify),
            web.post(f"/keys/{{name}}/{{version}}/{{operation:{_OPERATIONS}}}", self._use_key),
        ]
        for kind in Kind:
            found += [
                web.get(f"/{{kind:{kind}}}", self._list),
                web.get(f"/{{kind:{kind}}}/{{name}}/versions", self._list_versions),
                web.get(f"/{{kind:{kind}}}/{{name}}", self._get),
                web.get(f"/{{kind:{kind}}}/{{name}}/{{version:[0-9a-zA-Z]*}}", self._get),
                web.patch(f"/{{kind:{kind}}}/{{name}}", self._change),
                web.patch(f"/{{kind:{kind}}}/{{name}}/{{version:[0-9a-zA-Z]*}}", self._change),
                web.delete(f"/{{kind:{kind}}}/{{name}}", self._delete),
                web.get(f"/deleted{{kind:{kind}}}", self._list_deleted),
                web.get(f"/deleted{{kind:{kind}}}/{{name}}", self._get_deleted),
                web.delete(f"/deleted{{kind:{kind}}}/{{name}}", self._purge),
                web.post(f"/deleted{{kind:{kind}}}/{{name}}/recover", self._recover),
            ]
        return found

    async def _set_secret(self, request: web.Request) -> web.Response:
        body = await answers.json_object(request)
        value, content_type = body.get("value"), body.get("contentType")
        if not isinstance(value, str):
            raise bad_parameter("The secret has no value.")
        if len(value) > _SECRET_CHARACTERS:
            raise bad_parameter(f"The value has more than {_SECRET_CHARACTERS} characters.")
        return self._added(
            request, Kind.SECRET, body, payload=value, details={"contentType": content_type}
        )

    async def _create_key(self, request: web.Request) -> web.Response:
        body = await answers.json_object(request)
        return await self._new_key(
            request,
            body,
            kind=str(body.get("kty")),
            size=body.get("key_size"),
            curve=body.get("crv"),
            operations=body.get("key_ops"),
        )

    async def _rotate_key(self, request: web.Request) -> web.Response:
        old = self._found(request, Kind.KEY)
        return await self._new_key(
            request,
            {"attributes": old.attributes, "tags": old.tags},
            kind=old.details["kty"],
            size=old.details.get("size"),
            curve=old.details.get("crv"),
            operations=old.details["key_ops"],
        )

    async def _new_key(
        self,
        request: web.Request,
        body: dict[str, Any],
        *,
        kind: str,
        size: int | None,
        curve: str | None,
        operations: list[str] | None,
    ) -> web.Response:
        answers.checked_name(request.match_info["name"])
        try:
            pem, public = await asyncio.to_thread(
                keys.generate, kind=kind, size=size, curve=curve
            )
        except keys.BadKeyRequestError as error:
            raise bad_parameter(str(error)) from error
        possible = keys.OPERATIONS[kind.removesuffix("-HSM")]
        wanted = operations or possible
        if not isinstance(wanted, list) or not set(wanted) <= set(possible):
            raise bad_parameter(f"The key operations {wanted} are not all among {possible}.")
        details = {**public, "key_ops": wanted, "size": size}
        return self._added(request, Kind.KEY, body, payload=pem, details=details)

    async def _use_key(self, request: web.Request) -> web.Response:
        operation = request.match_info["operation"]
        key = self._usable_key(request, operation)
        body = await answers.json_object(request)
        value = _bytes(body, "value")
        try:
            result = await asyncio.to_thread(
                keys.perform, key.payload, operation, str(body.get("alg")), value
            )
        except keys.BadKeyRequestError as error:
            raise bad_parameter(str(error)) from error
        kid = _id(request, key)
        return web.json_response({"kid": kid, "value": keys.to_base64url(result)})

    async def _verify(self, request: web.Request) -> web.Response:
        key = self._usable_key(request, "verify")
        body = await answers.json_object(request)
        digest, signature = _bytes(body, "digest"), _bytes(body, "value")
        try:
            good = keys.verify(key.payload, str(body.get("alg")), digest, signature)
        except keys.BadKeyRequestError as error:
            raise bad_parameter(str(error)) from error
        return web.json_response({"value": good})

    async def _list(self, request: web.Request) -> web.Response:
        items = self._store.latest(request[VAULT].id, _kind(request))
        return answers.page(request, request[VAULT].uri, items, lambda i: _line(request, i))

    async def _list_versions(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        items = self._store.versions(request[VAULT].id, _kind(request), name)
        return answers.page(
            request, request[VAULT].uri, items, lambda i: _line(request, i, version=True)
        )

    async def _get(self, request: web.Request) -> web.Response:
        item = self._found(request, _kind(request))
        # A key is shown whatever its state: its public half is no secret.
        if item.kind is Kind.SECRET:
            _check_in_force(item)
        return web.json_response(_bundle(request, item))

    async def _change(self, request: web.Request) -> web.Response:
        item = self._found(request, _kind(request))
        body = await answers.json_object(request)
        details = dict(item.details)
        for field in ("contentType", "key_ops"):
            if field in details and body.get(field) is not None:
                details[field] = body[field]
        changed = self._store.change(
            request[VAULT].id,
            item,
            details=details,
            attributes=answers.attributes_from(body, item.attributes),
            tags=answers.tags_from(body, item.tags),
        )
        return web.json_response(_bundle(request, changed, value=False))

    async def _delete(self, request: web.Request) -> web.Response:
        kind, name = _kind(request), request.match_info["name"]
        item = self._store.delete(request[VAULT].id, kind, name)
        if item is None:
            raise _not_found(kind, name)
        return self._deletion(request, item)

    async def _list_deleted(self, request: web.Request) -> web.Response:
        vault, kind = request[VAULT], _kind(request)
        items = self._store.latest(vault.id, kind, deleted=True)

        def line(item: Item) -> dict[str, Any]:
            at = self._store.deleted_at(vault.id, kind, item.name) or 0
            return {**_line(request, item), **answers.shown_deletion(vault.uri, item, at)}

        return answers.page(request, vault.uri, items, line)

    async def _get_deleted(self, request: web.Request) -> web.Response:
        kind, name = _kind(request), request.match_info["name"]
        item = self._store.find_deleted(request[VAULT].id, kind, name)
        if item is None:
            raise _not_found(kind, name)
        return self._deletion(request, item)

    async def _recover(self, request: web.Request) -> web.Response:
        kind, name = _kind(request), request.match_info["name"]
        item = self._store.recover(request[VAULT].id, kind, name)
        if item is None:
            raise _not_found(kind, name)
        return web.json_response(_bundle(request, item, value=False))

    async def _purge(self, request: web.Request) -> web.Response:
        kind, name = _kind(request), request.match_info["name"]
        if not self._store.purge(request[VAULT].id, kind, name):
            raise _not_found(kind, name)
        return web.Response(status=204)

    def _added(
        self,
        request: web.Request,
        kind: Kind,
        body: dict[str, Any],
        *,
        payload: str,
        details: dict[str, Any],
    ) -> web.Response:
        name = answers.checked_name(request.match_info["name"])
        attributes, tags = answers.attributes_from(body), answers.tags_from(body)
        try:
            item = self._store.add(
                request[VAULT].id,
                kind,
                name,
                payload=payload,
                details=details,
                attributes=attributes,
                tags=tags,
            )
        except DeletedNameError:
            raise VaultError(
                409,
                "Conflict",
                f"{_WORDS[kind].capitalize()} {name} is currently in a deleted but recoverable "
                "state, and its name cannot be reused; recover or purge it.",
            ) from None
        return web.json_response(_bundle(request, item))

    def _deletion(self, request: web.Request, item: Item) -> web.Response:
        vault = request[VAULT]
        at = self._store.deleted_at(vault.id, item.kind, item.name) or 0
        return web.json_response(
            {
                **_bundle(request, item, value=False),
                **answers.shown_deletion(vault.uri, item, at),
            }
        )

    def _found(self, request: web.Request, kind: Kind) -> Item:
        name, version = request.match_info["name"], request.match_info.get("version", "")
        item = self._store.find(request[VAULT].id, kind, name, version)
        if item is None:
            raise _not_found(kind, f"{name}/{version}" if version else name)
        return item

    def _usable_key(self, request: web.Request, operation: str) -> Item:
        key = self._found(request, Kind.KEY)
        _check_in_force(key)
        if operation not in {allowed.lower() for allowed in key.details["key_ops"]}:
            raise VaultError(
                403, "Forbidden", f"Operation {operation} is not permitted on this key."
            )
        return key


def _kind(request: web.Request) -> Kind:
    return Kind(request.match_info["kind"])


def _not_found(kind: Kind, name: str) -> VaultError:
    word = _WORDS[kind]
    return VaultError(
        404,
        f"{word.capitalize()}NotFound",
        f"A {word} with (name/id) {name} was not found in this key vault.",
    )


def _check_in_force(item: Item) -> None:
    """Disabled or not valid yet is 403; past its end a secret is still given out, as on Azure."""
    now = time.time()
    reason = ""
    if not item.attributes.get("enabled", True):
        reason = "is disabled"
    elif item.attributes.get("nbf", 0) > now:
        reason = "is not valid yet"
    elif item.kind is Kind.KEY and item.attributes.get("exp", now) < now:
        reason = "has expired"
    if reason:
        raise VaultError(
            403, "Forbidden", f"Operation get is not allowed: {item.name} {reason}."
        )


def _id(request: web.Request, item: Item) -> str:
    return f"{request[VAULT].uri}{item.kind}/{item.name}/{item.version}"


def _bundle(request: web.Request, item: Item, *, value: bool = True) -> dict[str, Any]:
    shown: dict[str, Any] = {"attributes": answers.shown_attributes(item)}
    if item.tags is not None:
        shown["tags"] = item.tags
    if item.kind is Kind.KEY:
        public = {name: part for name, part in item.details.items() if name != "size"}
        return {**shown, "key": {"kid": _id(request, item), **public}}
    shown["id"] = _id(request, item)
    if item.details.get("contentType") is not None:
        shown["contentType"] = item.details["contentType"]
    if value:
        shown["value"] = item.payload
    return shown


def _line(request: web.Request, item: Item, *, version: bool = False) -> dict[str, Any]:
    shown = _bundle(request, item, value=False)
    shown.pop("key", None)
    where = _id(request, item)
    shown["kid" if item.kind is Kind.KEY else "id"] = (
        where if version else where.rpartition("/")[0]
    )
    return shown


def _bytes(body: dict[str, Any], field: str) -> bytes:
    try:
        return keys.from_base64url(body[field])
    except (KeyError, TypeError, ValueError):
        raise bad_parameter(f"The field {field} is not base64url.") from None
