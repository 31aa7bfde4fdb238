"""Deployments at subscription and resource group scope."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.resource_manager.answers import async_headers, json_answer, location_headers
from local.resource_manager.apart import apart
from local.resource_manager.deny import refuse_denied
from local.resource_manager.deployments import mode_of
from local.resource_manager.errors import (
    ArmError,
    bad_request,
    group_being_deleted,
    group_not_found,
)
from local.resource_manager.forecast import result_format
from local.resource_manager.ids import DEPLOYMENT_TYPE, ResourceId
from local.resource_manager.links import with_template
from local.resource_manager.listing import in_state, page
from local.resource_manager.operations import now
from local.resource_manager.parameters import shown
from local.resource_manager.secret_references import with_secrets
from local.resource_manager.steps import template_hash

if TYPE_CHECKING:
    from local.resource_manager.call import Call
    from local.resource_manager.service import Service
    from local.resource_manager.store import Record


async def one(service: Service, call: Call) -> web.StreamResponse:
    """HEAD, GET, PUT and DELETE of one deployment."""
    if call.method == "PUT":
        return await _put(service, call, await given(service, call))
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
    refuse_absent_group(service, scope)
    records = [
        one
        for one in service.cloud.store.of_type(DEPLOYMENT_TYPE)
        if one.id.scope.key == scope.key
    ]
    records = in_state(records, call.query.get("$filter"))
    return json_answer(page(call, [record.shown() for record in records]))


async def validate(service: Service, call: Call) -> web.StreamResponse:
    """Whether a template would be taken; 400 says why not."""
    body = await given(service, call)
    place = service.deployments.place(call.path.id, body.get("location"), call.principal)
    refuse_absent_group(service, call.path.id)
    properties = _properties(body)
    template = await apart(service.deployments.validate, properties, place)
    said = {"id": str(call.path.id), "name": call.path.id.name, "type": DEPLOYMENT_TYPE}
    told = {
        "provisioningState": "Succeeded",
        "mode": mode_of(properties),
        "timestamp": now(),
        "duration": "PT0S",
        "correlationId": str(uuid.uuid4()),
        "templateHash": template_hash(properties["template"]),
        "parameters": shown(template.declared, template.values),
        **await apart(service.deployments.contents, template),
    }
    return json_answer({**said, "properties": told})


async def what_if(service: Service, call: Call) -> web.StreamResponse:
    """What deploying would change; nothing is done."""
    body, target = await given(service, call), call.path.id
    properties = _properties(body)
    how = result_format(properties)
    place = service.deployments.place(target, body.get("location"), call.principal)
    refuse_absent_group(service, target)
    await apart(service.deployments.validate, properties, place)
    inputs = {
        "id": str(target),
        "template": properties["template"],
        "parameters": properties.get("parameters") or {},
        "location": body.get("location"),
        "mode": mode_of(properties),
        "principal": call.principal,
        "format": how,
    }
    # Its own id, so that a deployment of this name may run beside it.
    asked = target.child("whatIf", "default")
    operation = service.operations.start("deployment.whatIf", asked, inputs, end_as=call.end_as)
    return json_answer({}, status=202, headers=location_headers(call.request, operation))


async def cancel(service: Service, call: Call) -> web.StreamResponse:
    """Begin nothing more; what is being made ends as it does."""
    found = _deployment(service, call)
    if not service.operations.busy(found.id) or found.state == "Canceled":
        raise ArmError(
            "DeploymentCannotBeCancelled",
            f"The deployment '{found.id.name}' cannot be cancelled because its provisioning "
            f"state is '{found.state}'.",
            status=409,
        )
    refuse_denied(service.cloud.store, found.id, "cancel/action", call.principal)
    service.cloud.store.update(found.id, state="Canceled")
    return web.Response(status=204)


async def export_template(service: Service, call: Call) -> web.StreamResponse:
    """The template as it was given."""
    found = _deployment(service, call)
    return json_answer({"template": found.hidden.get("template")})


async def operations(service: Service, call: Call) -> web.StreamResponse:
    """What became of each resource of a deployment; one by its id, or all."""
    rows = _deployment(service, call).hidden.get("operations") or []
    return json_answer(page(call, rows))


async def operation(service: Service, call: Call) -> web.StreamResponse:
    """What became of one resource."""
    parent = call.path.id.parent
    found = service.cloud.store.get(parent) if parent else None
    rows = (found.hidden.get("operations") or []) if found else []
    for row in rows:
        if row["operationId"].lower() == call.path.id.name.lower():
            return json_answer(row)
    raise ArmError(
        "DeploymentOperationNotFound",
        f"Deployment operation '{call.path.id.name}' could not be found.",
        status=404,
    )


async def given(service: Service, call: Call) -> dict[str, Any]:
    """The body of a call with the template it links to and the values of secrets.

    Raises:
        ArmError: a link or a reference leads nowhere.
    """
    body = with_template(service.cloud.store, call.content(), call.query.get("api-version"))
    return await with_secrets(service.cloud, body)


def refuse_absent_group(service: Service, target: ResourceId) -> None:
    """Refuse a deployment into a group that is not there, or is being deleted.

    Raises:
        ArmError: as said.
    """
    if target.group is None:
        return
    found = service.cloud.store.get(ResourceId(target.subscription, target.group))
    if found is None:
        raise group_not_found(target.group)
    if found.state == "Deleting":
        raise group_being_deleted(target.group)


def _deployment(service: Service, call: Call) -> Record:
    found = service.cloud.store.get(call.path.id)
    if found is None:
        raise _not_found(call)
    return found


async def _put(service: Service, call: Call, body: dict[str, Any]) -> web.StreamResponse:
    target = call.path.id
    _refuse_running(service, call)
    found = service.cloud.store.get(target)
    place = service.deployments.place(target, body.get("location"), call.principal)
    refuse_absent_group(service, target)
    moved = found is not None and found.body.get("location") != body.get("location")
    if found is not None and moved and target.group is None:
        raise ArmError(
            "InvalidDeploymentLocation",
            f"Invalid deployment location '{body.get('location')}'. The deployment "
            f"'{target.name}' already exists in location '{found.body.get('location')}'.",
            status=409,
        )
    properties = _properties(body)
    template = await apart(service.deployments.validate, properties, place)
    _refuse_running(service, call)  # another one may have begun meanwhile
    refuse_absent_group(service, target)
    record = service.begin_deployment(target, body, place, template)
    inputs = {
        "template": properties["template"],
        "parameters": properties.get("parameters") or {},
        "location": body.get("location"),
        "mode": mode_of(properties),
        "principal": call.principal,
    }
    operation = service.operations.start("deployment.put", target, inputs, end_as=call.end_as)
    told = {**record.body, "properties": {**record.properties, "correlationId": operation.id}}
    record = service.cloud.store.put(replace(record, body=told))
    headers = async_headers(call.request, operation)
    return json_answer(record.shown(), status=201 if found is None else 200, headers=headers)


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
