"""Where the parts of a space stand that can be stopped, and what they say of their power. Pure.

The words are those of the REST API: `PowerState/…` of a machine (Compute 2024-07-01), `state` of a
PostgreSQL flexible server (2024-08-01).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from spaces.ports import Part, PartKind, Power

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_TYPES = {
    PartKind.MACHINES: ("Microsoft.Compute/virtualMachineScaleSets", "2024-07-01"),
    PartKind.DATABASE: ("Microsoft.DBforPostgreSQL/flexibleServers", "2024-08-01"),
}
_VERBS = {
    (PartKind.MACHINES, True): "start",
    # Not `powerOff`: a machine that is only powered off is still paid for.
    (PartKind.MACHINES, False): "deallocate",
    (PartKind.DATABASE, True): "start",
    (PartKind.DATABASE, False): "stop",
}
_AT_REST = frozenset({"running", "deallocated", "stopped", "failed"})
_VAULTS = "2023-07-01"


def address(part: Part, action: str = "") -> str:
    """The part below its resource group; with an action, that action's address."""
    kind, version = _TYPES[part.kind]
    tail = f"/{action}" if action else ""
    return f"/providers/{kind}/{quote(part.name, safe='')}{tail}?api-version={version}"


def verb(part: Part, *, on: bool) -> str:
    """What starts or stops such a part."""
    return _VERBS[part.kind, on]


def deleted_vault(name: str, location: str) -> str:
    """A softly deleted vault below its subscription."""
    return (
        f"/providers/Microsoft.KeyVault/locations/{quote(location, safe='')}"
        f"/deletedVaults/{quote(name, safe='')}?api-version={_VAULTS}"
    )


def of_machines(words: Iterable[str]) -> Power:
    """The power of a scale set by that of its machines; one without any is not there yet."""
    seen = set(words)
    if not seen or not seen <= _AT_REST:
        return Power.CHANGING
    if seen == {"running"}:
        return Power.ON
    return Power.OFF if seen == {"deallocated"} else Power.PARTLY


def of_database(properties: Mapping[str, Any]) -> Power:
    """The power of a database server; a word that is new to us is waited for."""
    match str(properties.get("state", "")).lower():
        case "ready":
            return Power.ON
        case "stopped":
            return Power.OFF
        case _:
            return Power.CHANGING
