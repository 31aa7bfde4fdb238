"""Deployment stacks, and what-if results of them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from aiohttp import web

from local.resource_manager.answers import async_headers, json_answer, location_headers
from local.resource_manager.apart import apart
from local.resource_manager.errors import ArmError
from local.resource_manager.handlers.deployments import given, refuse_absent_group
from local.resource_manager.ids import STACK_TYPE
from local.resource_manager.links import with_template
from local.resource_manager.listing import page
from local.resource_manager.secret_references import with_secrets

if TYPE_CHECKING:
    from local.resource_manager.call import Call
    from local.resource_manager.service import Service


async def one(service: Service, call: Call) -> web.StreamResponse:
    """GET, PUT and DELETE of one stack."""
    target = call.path.id
    match call.method:
        case "GET":
            found = service.cloud.store.get(target)
            if found is None:
                raise _not_found(call)
            return json_answer(service.stacks.shown(found))
        case "PUT":
            body = await given(service, call)
            refuse_absent_group(service, target)
            record, operation, new = await service.stacks.put(
                target, body, call.principal, end_as=call.end_as
            )
            headers = async_headers(call.request, operation)
            shown = service.stacks.shown(record)
            return json_answer(shown, status=201 if new else 200, headers=headers)
        case "DELETE":
            operation = service.stacks.delete(target, call.query, end_as=call.end_as)
            if operation is None:
                return web.Response(status=204)
            return json_answer({}, status=202, headers=async_headers(call.request, operation))
        case _:
            raise service.method_not_allowed(call)


async def many(service: Service, call: Call) -> web.StreamResponse:
    """All stacks of a scope."""
    scope = call.path.id
    refuse_absent_group(service, scope)
    records = [
        one for one in service.cloud.store.of_type(STACK_TYPE) if one.id.scope.key == scope.key
    ]
    return json_answer(page(call, [service.stacks.shown(record) for record in records]))


async def validate(service: Service, call: Call) -> web.StreamResponse:
    """Whether a stack would be taken; 400 is a normal answer."""
    body = await given(service, call)
    refuse_absent_group(service, call.path.id)
    properties, template = await apart(
        service.stacks.checked, call.path.id, body, call.principal
    )
    said = {"id": str(call.path.id), "name": call.path.id.name, "type": STACK_TYPE}
    contents = await apart(service.deployments.contents, template)
    told = {
        **properties,
        "correlationId": str(uuid.uuid4()),
        "validatedResources": contents["validatedResources"],
    }
    return json_answer({**said, "properties": told})


async def export_template(service: Service, call: Call) -> web.StreamResponse:
    """The template as it was given."""
    found = service.cloud.store.get(call.path.id)
    if found is None:
        raise _not_found(call)
    return json_answer({"template": found.hidden.get("template")})


async def what_if(service: Service, call: Call) -> web.StreamResponse:
    """GET, PUT and DELETE of a what-if result, and the POST that fills it."""
    results, target = service.stack_what_ifs, call.path.id
    if call.method == "PUT":
        refuse_absent_group(service, target)
        body = with_template(service.cloud.store, call.content(), None)
        # Checked with the values of secrets, kept with the references to them.
        checked = await with_secrets(service.cloud, body)
        record, operation, new = await results.put(
            target, body, checked, principal=call.principal, end_as=call.end_as
        )
        headers = async_headers(call.request, operation)
        return json_answer(record.shown(), status=201 if new else 200, headers=headers)
    found = results.get(target)
    if call.method == "DELETE":
        if found is not None:
            service.cloud.store.delete(target)
        return web.Response(status=204 if found is None else 200)
    if found is None:
        raise ArmError(
            "DeploymentStackWhatIfResultNotFound",
            f"The deployment stack what-if result '{target.name}' could not be found.",
            status=404,
        )
    if call.method == "GET" and not call.path.rest:
        return json_answer(found.shown())
    if call.method == "POST" and call.path.rest:
        operation = results.foresee(found, end_as=call.end_as)
        headers = location_headers(call.request, operation)
        return json_answer({}, status=202, headers=headers)
    raise service.method_not_allowed(call)


async def what_ifs(service: Service, call: Call) -> web.StreamResponse:
    """All what-if results of a scope."""
    found = service.stack_what_ifs.all(call.path.id)
    return json_answer(page(call, [record.shown() for record in found]))


def _not_found(call: Call) -> ArmError:
    return ArmError(
        "DeploymentStackNotFound",
        f"The deployment stack '{call.path.id.name}' could not be found.",
        status=404,
    )
