"""Resource groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.resource_manager.answers import json_answer, location_headers
from local.resource_manager.deny import refuse_denied
from local.resource_manager.errors import ArmError
from local.resource_manager.ids import GROUP_TYPE
from local.resource_manager.listing import page, wanted

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
        raise ArmError(
            "ResourceGroupNotFound",
            f"Resource group '{target.group}' could not be found.",
            status=404,
        )
    match call.method:
        case "HEAD":
            return web.Response(status=204)
        case "GET":
            return json_answer(_shown(found))
        case "PATCH":
            refuse_denied(store, target, "write", call.principal)
            tags = call.content().get("tags", found.body.get("tags"))
            record = store.update(target, body={**found.body, "tags": tags or {}})
            return json_answer(_shown(record or found))
        case "DELETE":
            refuse_denied(store, target, "delete", call.principal)
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


def _shown(record: Record) -> dict[str, Any]:
    return record.shown()
