"""The subscription itself, its providers and places, tags of any scope, ended operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.resource_manager.answers import json_answer, operation_result, operation_status
from local.resource_manager.deny import refuse_denied
from local.resource_manager.errors import ArmError, bad_request, not_found
from local.resource_manager.providers import PROVIDERS
from local.resource_manager.providers.base import REGIONS
from local.resource_manager.providers.vault import VAULT

if TYPE_CHECKING:
    from local.resource_manager.call import Call
    from local.resource_manager.service import Service


async def itself(service: Service, call: Call) -> web.StreamResponse:
    """The subscription."""
    cloud = service.cloud
    return json_answer(
        {
            "id": f"/subscriptions/{cloud.subscription}",
            "subscriptionId": cloud.subscription,
            "tenantId": cloud.tenant,
            "displayName": "KPAX local",
            "state": "Enabled",
        }
    )


async def locations(service: Service, call: Call) -> web.StreamResponse:
    """The regions."""
    base = str(call.path.id)
    return json_answer(
        {"value": [{"id": f"{base}/locations/{name}", "name": name} for name in REGIONS]}
    )


async def providers(service: Service, call: Call) -> web.StreamResponse:
    """One or all namespaces with their types; registering is nothing to be done."""
    _, *named = call.path.rest
    spaces: dict[str, list[str]] = {}
    for provider in PROVIDERS.values():
        namespace, _, kind = provider.type.partition("/")
        spaces.setdefault(namespace, []).append(kind)
    spaces["Microsoft.Resources"] = [
        "resourceGroups",
        "deployments",
        "deploymentStacks",
        "tags",
    ]
    shown = [_namespace(call, name, kinds) for name, kinds in sorted(spaces.items())]
    if not named:
        return json_answer({"value": shown})
    found = [one for one in shown if one["namespace"].lower() == named[0].lower()]
    if not found:
        raise ArmError(
            "InvalidResourceNamespace",
            f"The resource namespace '{named[0]}' is invalid.",
            status=404,
        )
    return json_answer(found[0])


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
    """A softly deleted vault: GET tells of it, POST purge frees its name."""
    name = call.path.id.name
    about = service.cloud.store.buried(VAULT).get(name.lower())
    if about is None:
        raise ArmError(
            "DeletedVaultNotFound", f"The deleted vault '{name}' was not found.", status=404
        )
    if call.path.rest == ("purge",) and call.method == "POST":
        service.cloud.store.purge(VAULT, name)
        return web.Response(status=200)
    return json_answer({"id": str(call.path.id), "name": name, "properties": about})


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


def _namespace(call: Call, name: str, kinds: list[str]) -> dict[str, Any]:
    return {
        "id": f"{call.path.id}/providers/{name}",
        "namespace": name,
        "registrationState": "Registered",
        "resourceTypes": [{"resourceType": kind, "locations": list(REGIONS)} for kind in kinds],
    }
