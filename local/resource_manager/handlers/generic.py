"""Single resources by id, their actions and children, and lists over all types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.resource_manager.answers import async_headers, json_answer, location_headers
from local.resource_manager.deny import refuse_denied
from local.resource_manager.errors import group_not_found, not_found
from local.resource_manager.listing import by_tag, page, wanted
from local.resource_manager.providers import NAMESPACES, PROVIDERS
from local.resource_manager.providers.base import unknown_type
from local.resource_manager.resources import is_listed

if TYPE_CHECKING:
    from local.resource_manager.call import Call
    from local.resource_manager.ids import ResourceId
    from local.resource_manager.providers.base import Provider
    from local.resource_manager.service import Service
    from local.resource_manager.store import Operation


async def one(service: Service, call: Call) -> web.StreamResponse:
    """HEAD, GET, PUT, PATCH and DELETE of one resource."""
    target, store = call.path.id, service.cloud.store
    if call.method == "PUT":
        return await _put(service, call, call.content())
    found = store.get(target)
    if found is None:
        return await _missing(service, call)
    match call.method:
        case "HEAD":
            return web.Response(status=204)
        case "GET":
            provider = PROVIDERS.get(found.type)
            seen = await provider.seen(found, service.cloud) if provider else found.shown()
            return json_answer(seen)
        case "PATCH":
            return await _put(service, call, _merged(found.wanted, call.content()))
        case "DELETE":
            refuse_denied(store, target, "delete", call.principal)
            return await _deleted(service, call)
        case _:
            raise service.method_not_allowed(call)


async def below(service: Service, call: Call) -> web.StreamResponse:
    """`POST …/action`, or `GET …/children`."""
    target, name = call.path.id, call.path.rest[0]
    viewed = await _viewed(service, call) if call.method == "GET" else None
    if viewed is not None:
        return json_answer(viewed)
    found = service.cloud.store.get(target)
    if found is None:
        raise not_found(str(target))
    provider = service.resources.provider(found.id)
    if call.method == "POST":
        refuse_denied(service.cloud.store, target, f"{name}/action", call.principal)
        if name.lower() in provider.powers:
            return _powered(service, call, provider)
        return json_answer(provider.act(name, found, call.body, service.cloud))
    if call.method != "GET":
        raise service.method_not_allowed(call)
    items = provider.collection(name, found, service.cloud)
    if items is None:
        kind = f"{found.type}/{name}".lower()
        if kind not in PROVIDERS:
            raise unknown_type(f"{found.id.type}/{name}", NAMESPACES, status=404)
        children = service.cloud.store.below(found.id)
        items = [child.shown() for child in children if child.type == kind]
    return json_answer(page(call, [_without_view(call, one) for one in items]))


async def by_type(service: Service, call: Call) -> web.StreamResponse:
    """`GET …/providers/Namespace/type`: the resources of one type in a scope."""
    _, namespace, kind = call.path.rest
    full = f"{namespace}/{kind}"
    if full.lower() not in PROVIDERS:
        raise unknown_type(full, NAMESPACES, status=404)
    records = service.cloud.store.of_type(full)
    items = [one.shown() for one in records if one.id.within(call.path.id)]
    return json_answer(page(call, items))


async def everything(service: Service, call: Call) -> web.StreamResponse:
    """`GET …/resources`: tracked resources of a subscription or group, filtered."""
    scope = call.path.id
    if scope.group and service.cloud.store.get(scope) is None:
        raise group_not_found(scope.group)
    records = [one for one in service.cloud.store.below(scope) if is_listed(one)]
    chosen = wanted(records, call.query.get("$filter"))
    left_out = ("properties", "tags") if by_tag(call.query.get("$filter")) else ("properties",)
    shown = [{k: v for k, v in one.shown().items() if k not in left_out} for one in chosen]
    if "provisioningstate" in call.query.get("$expand", "").lower():
        shown = [
            {**said, "provisioningState": one.state}
            for said, one in zip(shown, chosen, strict=True)
        ]
    return json_answer(page(call, shown))


async def _deleted(service: Service, call: Call) -> web.StreamResponse:
    if service.resources.provider(call.path.id).at_once:
        await service.resources.remove(call.path.id)
        return web.Response(status=200)
    headers = location_headers(call.request, _deletion(service, call))
    return json_answer({}, status=202, headers=headers)


def _deletion(service: Service, call: Call) -> Operation:
    """The running deletion of a resource, or a new one; not while it is being written."""
    target = call.path.id
    for running in service.cloud.store.running(target.key):
        if running.kind == "resource.delete":
            return running
        raise service.resources.provider(target).busy(target)
    return service.operations.start("resource.delete", target, end_as=call.end_as)


def _powered(service: Service, call: Call, provider: Provider) -> web.StreamResponse:
    """Begin to stop, start or restart; asked for twice, it is one operation."""
    target, verb = call.path.id, call.path.rest[0].lower()
    provider.check_power_argument(call.body)
    inputs = {"id": str(target), "verb": verb}
    for running in service.cloud.store.running(target.key):
        if running.kind != "resource.power" or (running.inputs or {}).get("verb") != verb:
            raise provider.busy(target)
        return web.Response(status=202, headers=async_headers(call.request, running))
    operation = service.operations.start("resource.power", target, inputs, end_as=call.end_as)
    return web.Response(status=202, headers=async_headers(call.request, operation))


async def _viewed(service: Service, call: Call) -> dict[str, Any] | None:
    """What a provider shows below the nearest resource that is recorded."""
    owner: ResourceId | None = call.path.id
    path = call.path.rest
    while owner is not None:
        found = service.cloud.store.get(owner)
        if found is not None:
            provider = PROVIDERS.get(found.type)
            shown = await provider.view(path, found, service.cloud) if provider else None
            return page(call, shown["value"]) if shown and "value" in shown else shown
        path = (*owner.parts[-1].pairs[-1], *path)
        owner = owner.parent
    return None


def _without_view(call: Call, item: dict[str, Any]) -> dict[str, Any]:
    """An item without its instance view, which is given to those who ask for it."""
    if "instanceview" in call.query.get("$expand", "").lower():
        return item
    properties = item.get("properties") or {}
    kept = {key: value for key, value in properties.items() if key != "instanceView"}
    return {**item, "properties": kept}


async def _missing(service: Service, call: Call) -> web.StreamResponse:
    if call.method == "GET":
        item = _in_collection(service, call.path.id)
        if item is not None:
            return json_answer(_without_view(call, item))
        viewed = await _viewed(service, call)
        if viewed is not None:
            return json_answer(viewed)
    if call.method == "HEAD":
        return web.Response(status=404)
    service.resources.provider(call.path.id)
    if call.method == "DELETE":
        return web.Response(status=204)
    raise not_found(str(call.path.id))


async def _put(service: Service, call: Call, body: dict[str, Any]) -> web.StreamResponse:
    target, store = call.path.id, service.cloud.store
    refuse_denied(store, target, "write", call.principal)
    service.resources.provider(target)
    service.resources.check(target, body)
    service.resources.check_surroundings(target)
    if service.operations.busy(target):
        raise service.resources.provider(target).busy(target)
    before = store.get(target)
    if service.resources.provider(target).at_once:
        record = await service.resources.put(before.id if before else target, body)
        return json_answer(record.shown(), status=201 if before is None else 200)
    inputs = {"id": str(before.id if before else target), "body": body}
    operation = service.operations.start("resource.put", target, inputs, end_as=call.end_as)
    # What was given is answered at once, without what is write-only; it is not made yet.
    shown = service.resources.preview(target, body)
    headers = async_headers(call.request, operation)
    return json_answer(shown, status=201 if before is None else 200, headers=headers)


def _in_collection(service: Service, target: ResourceId) -> dict[str, Any] | None:
    """An item of a provider's collection, such as one instance of a scale set."""
    parent = target.parent and service.cloud.store.get(target.parent)
    provider = PROVIDERS.get(parent.type) if parent else None
    if parent is None or provider is None:
        return None
    kind = target.parts[-1].pairs[-1][0]
    items = provider.collection(kind, parent, service.cloud) or []
    return next((one for one in items if str(one["id"]).lower() == target.key), None)


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in new.items():
        mine = merged.get(key)
        both = isinstance(mine, dict) and isinstance(value, dict) and key != "tags"
        merged[key] = _merged(mine, value) if both and isinstance(mine, dict) else value
    return merged
