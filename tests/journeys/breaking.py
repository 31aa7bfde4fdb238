"""A switch that breaks one call of the running app, for as long as a file stands.

The app loads it through the setting KPAX_PORTS_WRAPPER; the setting KPAX_BREAK_FILE names the
file. While it is there the machines of a space cannot be asked for: the step `start` ends in a
defect each time, as code does that crashes on what it reads.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaces.ports import Ports


class BreakingArm:
    def __init__(self, arm: Any, file: Path) -> None:
        self._arm = arm
        self._file = file

    def __getattr__(self, name: str) -> Any:
        return getattr(self._arm, name)

    async def instances(self, resource_group: str, scale_set: str) -> Any:
        if self._file.exists():
            raise RuntimeError("a defect")
        return await self._arm.instances(resource_group, scale_set)


def wrap(ports: Ports) -> Ports:
    """The ports with the switch in the Resource Manager's."""
    file = Path(os.environ["KPAX_BREAK_FILE"])
    return replace(ports, arm=BreakingArm(ports.arm, file))
