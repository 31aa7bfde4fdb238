"""Where the data of a space is and where its backups lie, opened through the ports."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, cast

from backups.bundle import BundleEngine
from backups.dumps import PostgresData
from backups.engine import Base, Files, Store
from backups.ranges import RangesEngine
from spaces import names
from spaces.configuration import admin_server, application_settings, space_blobs

if TYPE_CHECKING:
    from backups.engine import Data, Engine
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.settings import Settings

# Left out of what a backup keeps: a restore needs none of them, the vaults have them.
_SECRETS = frozenset({"password", "connection_string"})


class Places:
    """Opens engine, store and data of spaces. Tests bring databases of their own."""

    def __init__(self, settings: Settings, data: Data | None = None) -> None:
        self.settings = settings
        self.data: Data = data or PostgresData(settings.pg_bin)

    def engine(self, ports: Ports) -> Engine:
        """What makes, restores and proves backups; data of a test's own goes into bundles."""
        bundles = self.bundles(ports)
        if not isinstance(self.data, PostgresData):
            return bundles
        return RangesEngine(keys=ports.keys, bundles=bundles, programs=self.settings.pg_bin)

    def bundles(self, ports: Ports) -> BundleEngine:
        """What makes complete copies: the portable export, and reads what it made before."""
        return BundleEngine(keys=ports.keys, data=self.data, ids=ports.ids, clock=ports.clock)

    def store(self, ports: Ports, space: Space) -> Store:
        """The container of the space's backups, in the account of its cluster."""
        return Store(
            space_id=space.space_id,
            blobs=ports.accounts.backup_of(space.cluster),
            container=names.backup_container(space.space_id),
            vault=self.settings.cluster_vaults[space.cluster],
        )

    async def base(self, ports: Ports, space: Space, database: str) -> Base:
        """A database of the space's server."""
        return Base(server=await admin_server(ports, self.settings, space), database=database)

    async def files(self, ports: Ports, space: Space, container: str) -> Files:
        """A container of the space's account."""
        return Files(blobs=await space_blobs(ports, space), container=container)

    async def told(self, ports: Ports, space: Space) -> dict[str, object]:
        """What the space's application is told, without what opens doors."""
        text = await application_settings(ports, self.settings, space)
        return cast("dict[str, object]", _without_secrets(json.loads(text)))


def _without_secrets(value: object) -> object:
    if not isinstance(value, dict):
        return value
    items = cast("dict[str, object]", value)
    return {
        name: _without_secrets(item) for name, item in items.items() if name not in _SECRETS
    }
