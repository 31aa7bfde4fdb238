"""Resource groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.resource_manager.answers import json_answer, location_headers
from local.resource_manager.deny import refuse_denied
from local.resource_manager.errors import (
    ArmError,
    bad_request,
    group_being_deleted,
    group_not_found,
    not_found,
)
from local.resource_manager.ids import GROUP_TYPE, parse
from local.resource_manager.listing import page, wanted
from local.resource_manager.providers import PROVIDERS
from local.resource_manager.providers.versions import versions_of
from local.resource_manager.tags import check_tags

if TYPE_CHECKING:
    from local.resource_manager.call import Call
    from local.resource_manager.service import Service
    from local.resource_manager.store import Record


async def one(service: Service, call: Call) -> web.StreamResponse:
    """HEAD, GET, PUT, PATCH and DELETE of one group."""
    target, store = call.path.id, service.cloud.store
    if call.method == "PUT":
        refuse_denied(store, target, "write", call.principal)
        record, new = service.resources.put_group(target, call.content())
        return json_answer(_shown(record), status=201 if new else 200)
    found = store.get(target)
    if found is None:
        if call.method == "HEAD":
            return web.Response(status=404)
        raise group_not_found(target.name)
    match call.method:
        case "HEAD":
            return web.Response(status=204)
        case "GET":
            return json_answer(_shown(found))
        case "PATCH":
            refuse_denied(store, target, "write", call.principal)
            if found.state == "Deleting":
                raise group_being_deleted(target.name)
            tags = call.content().get("tags", found.body.get("tags"))
            check_tags(tags)
            record = store.update(target, body={**found.body, "tags": tags or {}})
            return json_answer(_shown(record or found))
        case "DELETE":
            refuse_denied(store, target, "delete", call.principal)
            running = store.running(target.key)
            if running and found.state == "Deleting":
                operation = running[0]  # asked again: the same deletion
            else:
                store.update(target, state="Deleting")
                operation = service.operations.start("group.delete", target, end_as=call.end_as)
            headers = location_headers(call.request, operation)
            return json_answer({}, status=202, headers=headers)
        case _:
            raise service.method_not_allowed(call)


async def many(service: Service, call: Call) -> web.StreamResponse:
    """All groups, by tag if asked."""
    records = service.cloud.store.of_type(GROUP_TYPE)
    chosen = wanted(records, call.query.get("$filter"))
    return json_answer(page(call, [_shown(record) for record in chosen]))


async def move(service: Service, call: Call) -> web.StreamResponse:
    """Resources stay where they were made: refused, as the service refuses what it cannot move."""
    body = call.content()
    resources, goal = body.get("resources"), body.get("targetResourceGroup")
    _known_group(service, call)
    if not isinstance(resources, list) or not resources or not isinstance(goal, str):
        raise bad_request("A move needs 'resources' and 'targetResourceGroup'.")
    kinds = {parse(str(one)).type for one in resources}
    raise ArmError(
        "ResourceMoveNotSupported",
        f"Resource move is not supported for resource types '{', '.join(sorted(kinds))}' in the "
        "local cloud: what a resource became on this machine is bound to its resource group.",
        status=409,
    )


async def export_template(service: Service, call: Call) -> web.StreamResponse:
    """A template of what a group holds, without parameters."""
    group = _known_group(service, call)
    body = call.content()
    wanted = [str(one).lower() for one in body.get("resources") or ["*"]]
    records = [
        one
        for one in service.cloud.store.below(group.id)
        if one.type in PROVIDERS and ("*" in wanted or one.key in wanted)
    ]
    there = {one.key for one in records}
    strange = [one for one in wanted if one != "*" and one not in there]
    if strange:
        raise not_found(strange[0])
    template = {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/"
        "deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "parameters": {},
        "variables": {},
        "resources": [_exported(one, there) for one in records],
    }
    return json_answer({"template": template})


def _exported(record: Record, there: set[str]) -> dict[str, Any]:
    wanted = {key: value for key, value in record.wanted.items() if value not in (None, {})}
    stable = [one for one in versions_of(record.id.type) if "preview" not in one]
    said: dict[str, Any] = {
        "type": record.id.type,
        "apiVersion": stable[0],
        "name": record.id.full_name,
        **wanted,
    }
    if record.id.scope.parts:
        said["scope"] = str(record.id.scope)
    above = record.id.parent or (record.id.scope if record.id.scope.parts else None)
    if above is not None and above.key in there:
        said["dependsOn"] = [str(above)]
    return said


def _known_group(service: Service, call: Call) -> Record:
    found = service.cloud.store.get(call.path.id) if call.path.id.group else None
    if found is None:
        raise group_not_found(call.path.id.group or "")
    if call.method != "POST":
        raise service.method_not_allowed(call)
    return found


def _shown(record: Record) -> dict[str, Any]:
    return record.shown()
