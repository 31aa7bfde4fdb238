"""The subscription itself, its providers and places, tags of any scope, ended operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.resource_manager.answers import json_answer, operation_result, operation_status
from local.resource_manager.deny import refuse_denied
from local.resource_manager.errors import ArmError, bad_request, not_found
from local.resource_manager.ids import parse
from local.resource_manager.listing import page
from local.resource_manager.namespaces import (
    UNREGISTERED,
    namespace,
    namespaces,
    unregistered,
)
from local.resource_manager.providers.base import normal_location
from local.resource_manager.providers.vault import VAULT
from local.resource_manager.providers.versions import REGIONS
from local.resource_manager.tags import check_tags
from local.resource_manager.tenant import subscription

if TYPE_CHECKING:
    from local.resource_manager.call import Call
    from local.resource_manager.service import Service


async def itself(service: Service, call: Call) -> web.StreamResponse:
    """The subscription."""
    del call
    return json_answer(subscription(service))


async def locations(service: Service, call: Call) -> web.StreamResponse:
    """The regions."""
    base = str(call.path.id)
    return json_answer(
        {"value": [{"id": f"{base}/locations/{name}", "name": name} for name in REGIONS]}
    )


async def providers(service: Service, call: Call) -> web.StreamResponse:
    """One or all namespaces with their types; all are registered until one is unregistered."""
    _, *named = call.path.rest
    scope, store = str(call.path.id), service.cloud.store
    if not named:
        return json_answer(page(call, namespaces(scope, unregistered(store))))
    found = namespace(scope, named[0], unregistered(store))
    match call.method, [one.lower() for one in named[1:]]:
        case "GET", []:
            return json_answer(found)
        case "POST", ["register"]:
            store.drop(UNREGISTERED, named[0])
            return json_answer({**found, "registrationState": "Registered"})
        case "GET", ["resourcetypes"]:
            return json_answer({"value": found["resourceTypes"]})
        case "POST", ["unregister"]:
            _refuse_used(service, found["namespace"])
            store.keep(UNREGISTERED, named[0], {})
            return json_answer({**found, "registrationState": "Unregistered"})
        case _:
            raise service.method_not_allowed(call)


async def tags(service: Service, call: Call) -> web.StreamResponse:
    """Tags of the scope that the path names: read, replace, merge, delete."""
    scope = call.path.id.scope
    found = service.cloud.store.get(scope)
    if found is None:
        raise not_found(str(scope))
    kept = dict(found.body.get("tags") or {})
    if call.method != "GET":
        refuse_denied(service.cloud.store, scope, "write", call.principal)
        kept = _changed(service, call, kept)
        check_tags(kept)
        service.cloud.store.update(scope, body={**found.body, "tags": kept})
    said = {
        "id": f"{scope}/providers/Microsoft.Resources/tags/default",
        "name": "default",
        "type": "Microsoft.Resources/tags",
        "properties": {"tags": kept},
    }
    return json_answer(said)


async def operation(service: Service, call: Call) -> web.StreamResponse:
    """An operation, by the link that its start answered."""
    found = service.operations.get(call.path.id.name)
    if found is None:
        raise ArmError("OperationNotFound", "There is no such operation.", status=404)
    if call.path.id.type.lower().endswith("operationstatuses"):
        return operation_status(found)
    return operation_result(call.request, found)


async def deleted_vault(service: Service, call: Call) -> web.StreamResponse:
    """A softly deleted vault: GET tells of it, POST purge frees its name and drops its content."""
    name, place = call.path.id.name, call.path.id.parts[-1].pairs[0][1]
    about = service.cloud.store.buried(VAULT).get(name.lower())
    if about is None or normal_location(about["location"]) != normal_location(place):
        raise ArmError(
            "DeletedVaultNotFound", f"The deleted vault '{name}' was not found.", status=404
        )
    if call.path.rest and call.method == "POST":
        if about.get("purgeProtectionEnabled"):
            raise ArmError(
                "MethodNotAllowed",
                "Operation 'DeletedVaultPurge' is not allowed: the vault is protected from it.",
                status=405,
            )
        await service.cloud.vaults.remove(parse(about["vaultId"]).name)
        service.cloud.store.purge(VAULT, name)
        return web.Response(status=200)
    if call.method != "GET":
        raise service.method_not_allowed(call)
    return json_answer(_buried(service, about))


async def deleted_vaults(service: Service, call: Call) -> web.StreamResponse:
    """All softly deleted vaults."""
    found = service.cloud.store.buried(VAULT).values()
    return json_answer(page(call, [_buried(service, about) for about in found]))


def _refuse_used(service: Service, name: str) -> None:
    start = f"{name.lower()}/"
    if start == "microsoft.resources/":
        raise ArmError(
            "CannotUnregisterResourceProvider",
            f"The resource namespace '{name}' is needed and cannot be unregistered.",
            status=409,
        )
    if any(one.type.startswith(start) for one in service.cloud.store.all()):
        raise ArmError(
            "CannotUnregisterProvider",
            f"The resource namespace '{name}' has resources and cannot be unregistered.",
            status=409,
        )


def _buried(service: Service, about: dict[str, Any]) -> dict[str, Any]:
    name = parse(about["vaultId"]).name
    return {
        "id": f"/subscriptions/{service.cloud.subscription}/providers/Microsoft.KeyVault/"
        f"locations/{about['location']}/deletedVaults/{name}",
        "name": name,
        "type": "Microsoft.KeyVault/deletedVaults",
        "properties": about,
    }


def _changed(service: Service, call: Call, kept: dict[str, Any]) -> dict[str, Any]:
    if call.method == "DELETE":
        return {}
    given = (call.content().get("properties") or {}).get("tags")
    if not isinstance(given, dict):
        raise bad_request("'properties.tags' must be an object.")
    if call.method == "PUT":
        return given
    if call.method != "PATCH":
        raise service.method_not_allowed(call)
    match str(call.content().get("operation", "")).lower():
        case "merge":
            return kept | given
        case "replace":
            return given
        case "delete":
            return {k: v for k, v in kept.items() if given.get(k) != v}
        case other:
            raise bad_request(f"The operation '{other}' is none of Merge, Replace, Delete.")
