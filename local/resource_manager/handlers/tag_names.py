"""Names and values of tags: those in use, and those that were defined ahead."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from aiohttp import web

from local.resource_manager.answers import json_answer
from local.resource_manager.errors import ArmError
from local.resource_manager.ids import GROUP_TYPE
from local.resource_manager.listing import page
from local.resource_manager.resources import is_listed
from local.resource_manager.tags import check_tags

if TYPE_CHECKING:
    from local.resource_manager.call import Call
    from local.resource_manager.service import Service

_KIND = "tagName"


async def tag_names(service: Service, call: Call) -> web.StreamResponse:
    """`GET tagNames`, and PUT and DELETE of `tagNames/NAME` and of `…/tagValues/VALUE`.

    Raises:
        ArmError: there is no such path, or what is to be deleted is in use.
    """
    _, *rest = call.path.rest
    match (
        call.method,
        [rest[0], *(one.lower() for one in rest[1:2]), *rest[2:]] if rest else [],
    ):
        case "GET", []:
            every = _all(service)
            return json_answer(page(call, [_name(call, n, every[n]) for n in sorted(every)]))
        case "PUT", [name]:
            return _define(service, call, name, None)
        case "PUT", [name, "tagvalues", value]:
            return _define(service, call, name, value)
        case "DELETE", [name]:
            return _drop(service, name, None)
        case "DELETE", [name, "tagvalues", value]:
            return _drop(service, name, value)
        case _:
            raise service.method_not_allowed(call)


def _define(service: Service, call: Call, name: str, value: str | None) -> web.StreamResponse:
    check_tags({name: value or ""})
    every = _all(service)
    known = _known(every, name)
    if value is None:
        if known is None:
            service.cloud.store.keep(_KIND, name, {"name": name, "values": []})
        shown = _name(call, known or name, every.get(known or name, Counter()))
        return json_answer(shown, status=201 if known is None else 200)
    if known is None:
        raise ArmError("TagNotFound", f"The tag '{name}' could not be found.", status=404)
    kept = service.cloud.store.kept(_KIND).get(known.lower(), {"name": known, "values": []})
    new = value not in every[known]
    if value not in kept["values"]:
        kept["values"].append(value)
        service.cloud.store.keep(_KIND, known, kept)
    return json_answer(
        _value(call, known, value, every[known][value]), status=201 if new else 200
    )


def _drop(service: Service, name: str, value: str | None) -> web.StreamResponse:
    """Forget what was defined; what is in use, and a name with values, stays."""
    store = service.cloud.store
    every = _all(service)
    known = _known(every, name)
    kept = store.kept(_KIND).get(name.lower())
    if known is None or (value is not None and value not in every[known]):
        return web.Response(status=204)
    counts = every[known]
    if (counts.total() if value is None else counts[value]) or (value is None and counts):
        what = f"the tag '{known}'" if value is None else f"the value '{value}' of '{known}'"
        raise ArmError("Conflict", f"{what} is in use, or has values.".capitalize(), status=409)
    if value is None:
        store.drop(_KIND, name)
    elif kept is not None:
        values = [one for one in kept["values"] if one != value]
        store.keep(_KIND, known, {**kept, "values": values})
    return web.Response(status=200)


def _all(service: Service) -> dict[str, Counter[str]]:
    """Every name with its values and how often each is used; 0 for those that are only defined."""
    names: dict[str, Counter[str]] = {}
    for one in service.cloud.store.kept(_KIND).values():
        names[one["name"]] = Counter(dict.fromkeys(one["values"], 0))
    for record in service.cloud.store.all():
        if is_listed(record) or record.type == GROUP_TYPE.lower():
            for name, value in (record.body.get("tags") or {}).items():
                counts = names.setdefault(_known(names, name) or name, Counter())
                counts[str(value)] += 1
    return names


def _known(names: dict[str, Counter[str]], wanted: str) -> str | None:
    return next((name for name in names if name.lower() == wanted.lower()), None)


def _name(call: Call, name: str, values: Counter[str]) -> dict[str, Any]:
    return {
        "id": f"/subscriptions/{call.path.id.subscription}/tagNames/{name}",
        "tagName": name,
        "count": {"type": "Total", "value": values.total()},
        "values": [_value(call, name, one, count) for one, count in sorted(values.items())],
    }


def _value(call: Call, name: str, value: str, count: int) -> dict[str, Any]:
    where = f"/subscriptions/{call.path.id.subscription}/tagNames/{name}/tagValues/{value}"
    return {"id": where, "tagValue": value, "count": {"type": "Total", "value": count}}
