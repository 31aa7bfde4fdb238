"""Deployments at subscription and resource group scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.resource_manager.answers import async_headers, json_answer
from local.resource_manager.errors import ArmError, bad_request
from local.resource_manager.ids import DEPLOYMENT_TYPE
from local.resource_manager.listing import page

if TYPE_CHECKING:
    from local.resource_manager.call import Call
    from local.resource_manager.service import Service
    from local.resource_manager.store import Record


async def one(service: Service, call: Call) -> web.StreamResponse:
    """HEAD, GET, PUT and DELETE of one deployment."""
    if call.method == "PUT":
        return _put(service, call)
    found = service.cloud.store.get(call.path.id)
    if call.method == "HEAD":
        return web.Response(status=404 if found is None else 204)
    if found is None:
        raise _not_found(call)
    match call.method:
        case "GET":
            return json_answer(found.shown())
        case "DELETE":
            _refuse_running(service, call)
            service.cloud.store.delete(found.id)  # its history; what it made stays
            return web.Response(status=204)
        case _:
            raise service.method_not_allowed(call)


async def many(service: Service, call: Call) -> web.StreamResponse:
    """The deployments of a scope."""
    scope = call.path.id
    records = [
        one
        for one in service.cloud.store.of_type(DEPLOYMENT_TYPE)
        if one.id.scope.key == scope.key
    ]
    return json_answer(page(call, [record.shown() for record in records]))


async def validate(service: Service, call: Call) -> web.StreamResponse:
    """Whether a template would be taken; 400 says why not."""
    body = call.content()
    place = service.deployments.place(call.path.id, body.get("location"))
    service.deployments.validate(_properties(body), place)
    said = {"id": str(call.path.id), "name": call.path.id.name, "type": DEPLOYMENT_TYPE}
    return json_answer({**said, "properties": {"provisioningState": "Succeeded"}})


async def operations(service: Service, call: Call) -> web.StreamResponse:
    """What became of each resource of a deployment."""
    found = service.cloud.store.get(call.path.id)
    if found is None:
        raise _not_found(call)
    made = found.properties.get("outputResources") or []
    rows = [_operation(service, call, str(one["id"])) for one in made]
    return json_answer(page(call, [row for row in rows if row]))


def _put(service: Service, call: Call) -> web.StreamResponse:
    target, body = call.path.id, call.content()
    _refuse_running(service, call)
    found = service.cloud.store.get(target)
    place = service.deployments.place(target, body.get("location"))
    if target.group is not None and service.resources.group(target.group) is None:
        raise ArmError(
            "ResourceGroupNotFound",
            f"Resource group '{target.group}' could not be found.",
            status=404,
        )
    moved = found is not None and found.body.get("location") != body.get("location")
    if found is not None and moved and target.group is None:
        raise ArmError(
            "InvalidDeploymentLocation",
            f"Invalid deployment location '{body.get('location')}'. The deployment "
            f"'{target.name}' already exists in location '{found.body.get('location')}'.",
            status=409,
        )
    service.deployments.validate(_properties(body), place)
    record = service.begin_deployment(target, body, place)
    inputs = {
        "template": body["properties"]["template"],
        "parameters": body["properties"].get("parameters") or {},
        "location": body.get("location"),
        "principal": call.principal,
    }
    operation = service.operations.start("deployment.put", target, inputs, end_as=call.end_as)
    headers = async_headers(call.request, operation)
    return json_answer(record.shown(), status=201 if found is None else 200, headers=headers)


def _operation(service: Service, call: Call, resource: str) -> dict[str, Any] | None:
    record: Record | None = service.cloud.store.get(resource)
    if record is None:
        return None
    return {
        "id": f"{call.path.id}/operations/{record.id.name}",
        "operationId": record.id.name,
        "properties": {
            "provisioningOperation": "Create",
            "provisioningState": record.state,
            "targetResource": {
                "id": str(record.id),
                "resourceType": record.id.type,
                "resourceName": record.id.full_name,
            },
        },
    }


def _properties(body: dict[str, Any]) -> dict[str, Any]:
    properties = body.get("properties")
    if not isinstance(properties, dict):
        raise bad_request("The request content has no 'properties'.")
    return properties


def _refuse_running(service: Service, call: Call) -> None:
    if service.operations.busy(call.path.id):
        raise ArmError(
            "DeploymentActive",
            f"Unable to edit or replace deployment '{call.path.id.name}': previous deployment "
            "is still active.",
            status=409,
        )


def _not_found(call: Call) -> ArmError:
    return ArmError(
        "DeploymentNotFound",
        f"Deployment '{call.path.id.name}' could not be found.",
        status=404,
    )
