"""The parts of the local stack: what they are called, where they answer, how one asks if they do.

A part is one program with a port and a question that a healthy one answers. `supervisor.py`
starts and stops them; here is nothing but the list and what can be said about it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.azurite import AzuriteAccounts, servers
from local.azurite.accounts import CONTROL_ACCOUNT
from local.errors import StackError
from local.home import PROJECT

if TYPE_CHECKING:
    from local.home import Home

# The application's own names for its queues are roles; infra/queues.json declares them.
QUEUES = {
    "billing": "billing-events",
    "steps": "provisioning-steps",
    "backups": "backup-runs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One program of the stack. `ports` are names of the home's ports, the first is its address.

    It also opens those whose names begin with `also`, as many as there are by now.
    A healthy one answers `GET <path>` at the port `health_port` with a status under `below`.
    Parts stop in the order of `stops`, those with the same number at once: who asks before who
    is asked, and Azurite last, because everybody writes there to the end.
    """

    name: str
    ports: tuple[str, ...]
    path: str
    health_port: str
    scheme: str = "http"
    stops: int = 0
    below: int = 300
    grace_s: float = 10.0
    also: str = ""

    def all_ports(self, home: Home) -> dict[str, int]:
        """Every port that it will open, by name."""
        return {name: home.port(name) for name in self.ports} | (
            home.ports(self.also) if self.also else {}
        )

    @property
    def is_azurite(self) -> bool:
        """Azurite's servers are Node's, stop last and by another signal."""
        return self.name in servers.SERVICES

    def address(self, home: Home) -> str:
        """Where it answers."""
        return f"{self.scheme}://127.0.0.1:{home.port(self.ports[0])}"


def _part(name: str, path: str, **more: Any) -> Part:  # noqa: ANN401 — fields of Part
    return Part(name=name, ports=(name,), path=path, health_port=name, **more)


# In the order of starting: the host's import of all SDKs is the long pole.
PARTS: tuple[Part, ...] = (
    # A function that runs may take its time to end: the host drains for 30 s.
    _part("functions_host", "/admin/host/status", stops=0, grace_s=35.0),
    _part("azurite_blob", "/", stops=3, below=500),
    _part("azurite_table", "/", stops=3, below=500),
    Part(
        name="service_bus",
        ports=("service_bus", "service_bus_admin"),
        path="/$namespaceinfo",
        health_port="service_bus_admin",
        scheme="amqp",
        stops=2,
    ),
    _part("resource_manager", "/healthz", stops=1, grace_s=15.0),
    _part("key_vault", "/healthz", stops=1, also="vault_"),
    _part("front_door", "/healthz", stops=0),
)


def address(home: Home, name: str) -> str:
    """Where the part of this name answers."""
    return next(part for part in PARTS if part.name == name).address(home)


async def healthy(home: Home, part: Part, *, timeout_s: float = 2.0) -> bool:
    """Whether the part answers its question now."""
    headers = f"Host: 127.0.0.1\r\nx-functions-key: {home.secret('master_key')}\r\n"
    request = f"GET {part.path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", home.port(part.health_port)
            )
            try:
                writer.write(request.encode())
                first = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    words = first.split()
    return len(words) > 1 and words[1].isdigit() and int(words[1]) < part.below


def environment(home: Home) -> dict[str, object]:
    """What an outside program needs to talk to this stack: addresses, keys, connection strings."""
    from local.app_settings import subscription_id  # noqa: PLC0415 — `status` does without it
    from local.service_bus.connection import (  # noqa: PLC0415 — likewise
        admin_connection_string,
        connection_string,
    )

    functions = address(home, "functions_host")
    return {
        "functions": functions,
        "console": f"{functions}/console",
        "front_door": address(home, "front_door"),
        "resource_manager": address(home, "resource_manager"),
        "resource_manager_token": home.secret("token"),
        "subscription_id": subscription_id(home),
        "service_bus_connection": connection_string(home),
        "service_bus_admin_connection": admin_connection_string(home),
        "service_bus_admin": f"http://127.0.0.1:{home.port('service_bus_admin')}",
        "storage_connection": AzuriteAccounts(home).register(CONTROL_ACCOUNT).connection_string,
        "queues": _declared(QUEUES),
        "function_key": home.secret("function_key"),
        "master_key": home.secret("master_key"),
        "ca_file": str(home.path("key_vault", "ca.pem")),
        "home": str(home.root),
        "logs": str(home.path("logs", "x").parent),
    }


def _declared(queues: dict[str, str]) -> dict[str, str]:
    declared = json.loads((PROJECT / "infra" / "queues.json").read_bytes())["queues"]
    missing = set(queues.values()) - {queue["name"] for queue in declared}
    if missing:
        raise StackError(f"infra/queues.json does not declare {', '.join(sorted(missing))}.")
    return dict(queues)
