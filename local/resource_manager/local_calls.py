"""What only this machine's tools ask: stop, repair, which processes there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.resource_manager.answers import json_answer
from local.resource_manager.errors import ArmError
from local.resource_manager.providers.compute import SCALE_SET
from local.resource_manager.providers.postgres import FlexibleServers

if TYPE_CHECKING:
    from aiohttp import web

    from local.resource_manager.service import Service
    from local.resource_manager.store import Record


async def answer(service: Service, request: web.Request) -> web.StreamResponse:
    """`POST /_local/stop`, `POST /_local/repair`, `GET /_local/processes`.

    Raises:
        ArmError: nothing else is here.
    """
    match request.method, request.path:
        case "POST", "/_local/stop":
            await service.stop_processes()
            return json_answer({"items": _processes(service)})
        case "POST", "/_local/repair":
            failures = await service.repair()
            return json_answer({"items": _processes(service), "failures": failures})
        case "GET", "/_local/processes":
            return json_answer({"items": _processes(service)})
        case _:
            raise ArmError("InvalidRequestUri", f"'{request.path}' names nothing.", status=404)


def _processes(service: Service) -> list[dict[str, Any]]:
    cloud = service.cloud
    items: list[dict[str, Any]] = []
    for record in cloud.store.of_type(FlexibleServers.type):
        server = cloud.databases.get(record.id.name)
        items.append(
            {
                "kind": "database",
                "name": record.id.name,
                "pid": server.pid if server else None,
                "space_id": _space(record),
                "zone": None,
                "running": bool(server and server.running),
                "power": record.power or "running",
                "memory_limit_mib": None,
                "mechanism": "none",
            }
        )
    for record in cloud.store.of_type(SCALE_SET):
        items += [
            {
                "kind": "instance",
                "name": one.id,
                "pid": one.pid,
                "space_id": _space(record),
                "zone": one.zone,
                "running": one.pid is not None,
                "power": record.power or "running",
                "memory_limit_mib": one.memory_limit_mib,
                "mechanism": one.mechanism,
            }
            for one in cloud.compute.instances(record.id.name)
        ]
    return items


def _space(record: Record) -> str | None:
    tags = record.body.get("tags") or {}
    return tags.get("kpax-space")
