"""A store from what a command line names: a folder, or the URL of a container."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from backups.store.folder import FolderStore

if TYPE_CHECKING:
    from backups.store.objects import ObjectStore


def store_at(place: str) -> ObjectStore:
    """The store of a folder or of a container's URL; credentials come from the environment."""
    if place.startswith(("https://", "http://")):
        from backups.store.container import ContainerStore  # noqa: PLC0415 — slow to import

        return ContainerStore.at(place, os.environ)
    return FolderStore(Path(place))
