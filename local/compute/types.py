"""What a scale set is, and what one of its instances looks like from outside."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field


@dataclass(frozen=True, slots=True)
class ScaleSet:
    """A number of equal instances spread over zones; a new `revision` restarts them."""

    name: str
    zones: tuple[str, ...]
    capacity: int
    memory_mib: int
    cpus: float
    vault_uri: str
    vault_token: str = field(repr=False)
    tags: dict[str, str]
    revision: str
    running: bool = True
    """False: wanted, and kept without a process until it is true again."""

    def ids(self) -> list[str]:
        """The names of its instances."""
        return [f"{self.name}_{number}" for number in range(self.capacity)]

    def zone(self, instance_id: str) -> str:
        """The zone of an instance: one after the other; empty without zones."""
        number = int(instance_id.rpartition("_")[2])
        return self.zones[number % len(self.zones)] if self.zones else ""

    def fingerprint(self, instance_id: str) -> str:
        """Changes exactly when a running instance has to be restarted."""
        told = asdict(self) | {"zone": self.zone(instance_id)}
        for other in ("name", "zones", "capacity", "tags", "running"):
            del told[other]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance; `pid` None and `healthy` False when it is down.

    `healthy` None means that nobody has asked it. Limits are those in force, None without.
    """

    id: str
    scale_set: str
    zone: str
    address: str
    pid: int | None
    healthy: bool | None
    memory_limit_mib: int | None
    cpu_limit: float | None
    mechanism: str
