"""Opens one adapter per port from the settings, and closes them all.

Imported only by `spaces.wiring`, late: this module pulls in every SDK, most of a cold start.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spaces.adapters.accounts import AzureAccounts
from spaces.adapters.arm import AzureArm
from spaces.adapters.billing import FileBilling, HttpBilling
from spaces.adapters.bus import AzureBus
from spaces.adapters.clock import SystemClock
from spaces.adapters.credentials import credential
from spaces.adapters.databases import PostgresDatabases
from spaces.adapters.edge import HttpEdge
from spaces.adapters.ids import SystemIds
from spaces.adapters.tables import AzureTables
from spaces.adapters.vault import VaultKeys, VaultSecrets
from spaces.adapters.wire import Wire
from spaces.errors import InvalidError
from spaces.ports import Ports

if TYPE_CHECKING:
    from spaces.settings import Settings


@dataclass(frozen=True, slots=True)
class Opened:
    """The ports, and what closes them, in order."""

    ports: Ports
    closers: tuple[Callable[[], Awaitable[None]], ...]

    async def close(self) -> None:
        """Close every adapter, then the connections and the credential under them."""
        for close in self.closers:
            await close()


def opened(settings: Settings) -> Opened:
    """Adapters for these settings; nothing is connected before its first call.

    Raises `InvalidError` where a service is named twice or not at all.
    """
    _one_of("KPAX_STORAGE", settings.storage, "KPAX_STORAGE_URL", settings.storage_url)
    _one_of(
        "ServiceBus",
        settings.bus,
        "ServiceBus__fullyQualifiedNamespace",
        settings.bus_namespace,
    )
    who = credential(settings.static_token)
    wire = Wire(ca_file=settings.ca_file)
    tables = AzureTables(
        wire, connection=settings.storage, url=settings.storage_url, credential=who
    )
    bus = AzureBus(
        wire,
        connection=settings.bus,
        namespace=settings.bus_namespace,
        admin=settings.bus_admin,
        credential=who,
    )
    arm = AzureArm(
        wire,
        endpoint=settings.arm_endpoint,
        subscription=settings.subscription_id,
        credential=who,
        excluded_principal=settings.control_principal,
    )
    accounts = AzureAccounts(
        wire,
        arm,
        credential=who,
        backup_accounts=settings.backup_accounts,
        allow_shared_key=settings.allow_shared_key,
    )
    secrets = VaultSecrets(wire, credential=who, ca_file=settings.ca_file)
    keys = VaultKeys(
        wire,
        credential=who,
        vaults=list(settings.cluster_vaults.values()),
        ca_file=settings.ca_file,
    )
    edge = HttpEdge(resolve=settings.space_resolve)
    billing = _billing(settings)
    ports = Ports(
        tables=tables,
        bus=bus,
        accounts=accounts,
        arm=arm,
        databases=PostgresDatabases(),
        secrets=secrets,
        keys=keys,
        edge=edge,
        clock=SystemClock(),
        ids=SystemIds(),
        billing=billing,
    )
    asked = () if billing is None else (billing,)
    parts = (bus, accounts, tables, arm, secrets, keys, edge, *asked, wire, who)
    return Opened(ports, tuple(part.close for part in parts))


def _billing(settings: Settings) -> HttpBilling | FileBilling | None:
    """Where the billing list is; None where no setting says it."""
    if settings.billing_url and settings.billing_file:
        raise InvalidError(
            "of the settings KPAX_BILLING_URL and KPAX_BILLING_FILE at most one is needed",
            where="application settings",
        )
    if settings.billing_url:
        return HttpBilling(settings.billing_url, token=settings.billing_token)
    return None if settings.billing_file is None else FileBilling(settings.billing_file)


def _one_of(name: str, value: str | None, other: str, other_value: str | None) -> None:
    if bool(value) == bool(other_value):
        how = "both are set" if value else "neither is set"
        raise InvalidError(
            f"of the settings {name} and {other} exactly one is needed, and {how}",
            where="application settings",
        )
