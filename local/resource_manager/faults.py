"""Faults on demand: `faults.json` in the home names what shall go wrong, and how often.

    {"faults": [{"kind": "answer", "method": "PUT", "path": "deploymentStacks/", "times": 2,
                 "status": 429, "headers": {"Retry-After": "1"}, "code": "TooManyRequests"}]}

| kind | what happens |
|---|---|
| `answer` | the request is answered with `status`, and `text` as it is or an error body of `code` |
| `operation` | the operation that the request starts ends `Failed` (`code`) or `Canceled` (`status`) |
| `lose` | the request has its effect, its answer never arrives |
| `drop` | the connection is cut before anything is done |
| `refuse` | as `drop`, and for `for_s` seconds nobody listens |
| `resource` | a resource of `type` (and `name`) fails with `code`; `action` is put or delete |
| `slow` | such a resource takes `for_s` seconds longer |

`times` is 1 when left out, "always" is for ever. The counts begin anew when the file changes.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError

if TYPE_CHECKING:
    from pathlib import Path

    from local.resource_manager.ids import ResourceId

log = logging.getLogger("local.resource_manager")
KINDS = ("answer", "operation", "lose", "drop", "refuse", "resource", "slow")
_CAUSE = "asked for by the fault file"


class Faults:
    """The fault file, read when it changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._faults: list[dict[str, Any]] = []
        self._left: list[float] = []

    def request(self, method: str, path: str) -> dict[str, Any] | None:
        """The fault that meets this request; counted."""
        for index, fault in self._current():
            if fault["kind"] in ("resource", "slow"):
                continue
            if fault.get("method", method).upper() != method.upper():
                continue
            if fault.get("path", "").lower() in path.lower():
                return self._taken(index, fault)
        return None

    async def resource(self, target: ResourceId, action: str) -> None:
        """Fail, or wait, when a fault names this resource.

        Raises:
            ArmError: the fault's code.
        """
        for index, fault in self._current():
            if fault["kind"] not in ("resource", "slow"):
                continue
            if fault.get("action", "put") != action:
                continue
            if fault.get("type", target.type).lower() != target.type.lower():
                continue
            if fault.get("name", target.name).lower() != target.name.lower():
                continue
            self._taken(index, fault)
            if fault["kind"] == "slow":
                await asyncio.sleep(float(fault.get("for_s", 1)))
                continue
            raise ArmError(
                fault.get("code", "InternalServerError"),
                fault.get("message", f"{target.full_name}: {_CAUSE}."),
                status=int(fault.get("status", 500)),
            )

    def _taken(self, index: int, fault: dict[str, Any]) -> dict[str, Any]:
        self._left[index] -= 1
        log.warning("fault.met %s", fault["kind"])
        return fault

    def _current(self) -> list[tuple[int, dict[str, Any]]]:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            self._seen, self._faults, self._left = None, [], []
            return []
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._seen = seen
            self._faults = _read(self._path)
            self._left = [
                float("inf") if one.get("times") == "always" else float(one.get("times", 1))
                for one in self._faults
            ]
        return [(i, f) for i, f in enumerate(self._faults) if self._left[i] > 0]


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(path.read_bytes())["faults"]
        strange = [one["kind"] for one in found if one["kind"] not in KINDS]
    except (ValueError, KeyError, TypeError) as error:
        log.warning("faults.unreadable %s", error)
        return []
    if strange:
        log.warning("faults.unknown %s", strange)
    return [one for one in found if one["kind"] in KINDS]
