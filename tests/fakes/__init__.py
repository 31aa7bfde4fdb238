"""One fake per port: complete, in memory, the same every time.

`fake_ports()` puts them together over one clock. The conformance suites hold each to the real
thing; what a fake offers beyond its port is for tests to look and to make trouble with.
"""

from __future__ import annotations

from typing import Any

from spaces.ports import Ports
from tests.fakes.arm import FakeArm, Script
from tests.fakes.billing import FakeBilling, a_subscription
from tests.fakes.blobs import FakeAccounts, FakeBlobs
from tests.fakes.bus import FakeBus, QueueRules, Received
from tests.fakes.clock import START, FakeClock, FakeIds
from tests.fakes.databases import FakeDatabases
from tests.fakes.edge import FakeEdge, space_app
from tests.fakes.faults import Faults
from tests.fakes.tables import FakeTables
from tests.fakes.vault import FakeKeys, FakeSecrets

CLUSTERS = ("france", "uk", "united-states", "canada", "south-africa", "india")
CLUSTER_VAULTS = {name: f"https://kv-kx-{name}.vault.azure.net/" for name in CLUSTERS}


def fake_ports(**over: Any) -> Ports:
    """All fakes over one clock; name one (`arm=…`, `clock=…`) to bring your own.

    `billing` is None unless it is brought: most tests have nobody to ask.
    """
    clock = over.pop("clock", None) or FakeClock()
    parts: dict[str, Any] = {
        "tables": FakeTables(),
        "bus": FakeBus(clock),
        "accounts": FakeAccounts(CLUSTERS),
        "arm": FakeArm(clock),
        "databases": FakeDatabases(),
        "secrets": FakeSecrets(),
        "keys": FakeKeys(list(CLUSTER_VAULTS.values())),
        "edge": FakeEdge(),
        "ids": FakeIds(),
        "billing": None,
    }
    unknown = set(over) - set(parts)
    if unknown:
        raise TypeError(f"no such ports: {sorted(unknown)}")
    return Ports(clock=clock, **{**parts, **over})


__all__ = [
    "CLUSTERS",
    "CLUSTER_VAULTS",
    "START",
    "FakeAccounts",
    "FakeArm",
    "FakeBilling",
    "FakeBlobs",
    "FakeBus",
    "FakeClock",
    "FakeDatabases",
    "FakeEdge",
    "FakeIds",
    "FakeKeys",
    "FakeSecrets",
    "FakeTables",
    "Faults",
    "QueueRules",
    "Received",
    "Script",
    "a_subscription",
    "fake_ports",
    "space_app",
]
