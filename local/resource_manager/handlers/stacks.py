"""Deployment stacks at subscription scope."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from local.resource_manager.answers import async_headers, json_answer
from local.resource_manager.errors import ArmError, bad_request
from local.resource_manager.ids import STACK_TYPE
from local.resource_manager.listing import page

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
                raise ArmError(
                    "DeploymentStackNotFound",
                    f"The deployment stack '{target.name}' could not be found.",
                    status=404,
                )
            return json_answer(service.stacks.shown(found))
        case "PUT":
            body = call.content()
            if not body.get("location"):
                raise bad_request("The location of a subscription's stack is required.")
            record, operation, new = service.stacks.put(target, body, end_as=call.end_as)
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
    """All stacks of the subscription."""
    scope = call.path.id
    records = [
        one for one in service.cloud.store.of_type(STACK_TYPE) if one.id.scope.key == scope.key
    ]
    return json_answer(page(call, [service.stacks.shown(record) for record in records]))


async def validate(service: Service, call: Call) -> web.StreamResponse:
    """Whether a stack would be taken; 400 is a normal answer."""
    body = call.content()
    properties = service.stacks.validate(call.path.id, body)
    said = {"id": str(call.path.id), "name": call.path.id.name, "type": STACK_TYPE}
    return json_answer({**said, "properties": properties})
