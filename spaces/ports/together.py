"""All doors in one value, as a handler is given them."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.ports.arm import Arm
from spaces.ports.billing import Billing
from spaces.ports.blobs import Accounts
from spaces.ports.bus import Bus
from spaces.ports.chance import Clock, Ids
from spaces.ports.data import Databases, Edge, Keys, Secrets
from spaces.ports.tables import Tables


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """All doors together, as `spaces.wiring` opens them; `billing` None: there is nobody to ask."""

    tables: Tables
    bus: Bus
    accounts: Accounts
    arm: Arm
    databases: Databases
    secrets: Secrets
    keys: Keys
    edge: Edge
    clock: Clock
    ids: Ids
    billing: Billing | None = None
