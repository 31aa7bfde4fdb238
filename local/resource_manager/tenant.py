"""What is asked of the tenant, above all subscriptions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local.resource_manager.answers import json_answer
from local.resource_manager.errors import ArmError, bad_request
from local.resource_manager.namespaces import namespace, namespaces
from local.resource_manager.providers.versions import check_version
from local.resource_manager.steps import template_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from local.resource_manager.service import Service

_OWN = ("providers", "subscriptions", "tenants")


def is_tenants(path: str) -> bool:
    """Whether a path is above the subscriptions."""
    first, *rest = path.strip("/").split("/")
    return first.lower() in _OWN and (first.lower() != "subscriptions" or not rest)


async def answer(service: Service, request: web.Request) -> web.StreamResponse:
    """The one subscription, the one tenant, the namespaces.

    Raises:
        ArmError: nothing else is here.
    """
    cloud = service.cloud
    first, *rest = request.path.strip("/").split("/")
    if (request.method, [one.lower() for one in rest]) == (
        "POST", ["microsoft.resources", "calculatetemplatehash"],
    ):  # fmt: skip
        return await _hashed(request)
    if [one.lower() for one in (first, *rest[:1])] == ["providers", "microsoft.management"]:
        raise ArmError(
            "OperationNotSupported",
            "The local Resource Manager has no management groups: there is one subscription, and "
            "deployments are made to it and to its resource groups.",
            status=404,
        )
    if request.method != "GET":
        raise ArmError(
            "OperationNotSupported",
            f"The local Resource Manager has no '{request.method} {request.path}': deployments "
            "are made at subscription and resource group scope.",
            status=404,
        )
    version = asked_version({key.lower(): value for key, value in request.query.items()})
    check_version(f"Microsoft.Resources/{first}", version)
    match first.lower(), rest:
        case "subscriptions", []:
            return json_answer({"value": [subscription(service)]})
        case "tenants", []:
            tenant = {"id": f"/tenants/{cloud.tenant}", "tenantId": cloud.tenant}
            return json_answer({"value": [tenant]})
        case "providers", []:
            return json_answer({"value": namespaces("")})
        case "providers", [name]:
            return json_answer(namespace("", name))
        case _:
            raise ArmError("InvalidRequestUri", f"'{request.path}' names nothing.", status=404)


async def _hashed(request: web.Request) -> web.StreamResponse:
    try:
        template = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise bad_request("The request content was invalid JSON.") from error
    if not isinstance(template, dict):
        raise bad_request("The request content must be a template.")
    minified = json.dumps(template, separators=(",", ":"))
    return json_answer({"minifiedTemplate": minified, "templateHash": template_hash(template)})


def subscription(service: Service) -> dict[str, Any]:
    """The one subscription."""
    cloud = service.cloud
    return {
        "id": f"/subscriptions/{cloud.subscription}",
        "subscriptionId": cloud.subscription,
        "tenantId": cloud.tenant,
        "displayName": "KPAX local",
        "state": "Enabled",
    }


def asked_version(query: Mapping[str, str]) -> str:
    """The API version of a request.

    Raises:
        ArmError: it has none.
    """
    version = query.get("api-version")
    if not version:
        raise ArmError(
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
    return version
