"""Blob Storage: containers of an account, and the accounts of the estate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobInfo:
    """A blob as listed: name, size in bytes, ETag, MD5-free metadata and content type."""

    name: str
    size: int
    etag: str
    content_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])


class Blobs(Protocol):
    """Blob containers of one storage account."""

    async def ensure_container(self, container: str) -> None:
        """Make the container unless it is there. Repeatable."""
        ...

    async def delete_container(self, container: str) -> None:
        """Remove the container and all it holds; a missing one counts as done."""
        ...

    async def create(
        self,
        container: str,
        name: str,
        data: bytes | Path,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Store under a name that must be free (`If-None-Match: *`); answers the ETag.

        A file is streamed. Raises `ConflictError` when the name is taken by other bytes; the same
        bytes there already (a lost answer) count as done.
        """
        ...

    async def read(self, container: str, name: str) -> bytes:
        """The whole blob. Raises `NotFoundError`."""
        ...

    async def download(self, container: str, name: str, path: Path) -> None:
        """Stream the blob into a file. Raises `NotFoundError`."""
        ...

    async def info(self, container: str, name: str) -> BlobInfo | None:
        """What a listing would say of this blob, or None."""
        ...

    def list(self, container: str, *, prefix: str = "") -> AsyncIterator[BlobInfo]:
        """Blobs in name order; nothing where the container is missing."""
        ...

    async def delete(self, container: str, name: str) -> None:
        """Remove the blob; a missing one counts as done.

        Raises `ConflictError` where a policy keeps it (immutability, a legal hold).
        """
        ...


class Accounts(Protocol):
    """Opens the storage accounts of the estate: one per space, one for backups per cluster."""

    async def of_space(
        self, resource_group: str, account: str, endpoint: str, *, key: int = 1
    ) -> Blobs:
        """The account of a space, by its ARM names and blob endpoint.

        `key` names the one of its two keys that is in force, where keys are used at all.
        """
        ...

    async def connection_of_space(
        self, resource_group: str, account: str, endpoint: str, *, key: int = 1
    ) -> dict[str, str]:
        """How a space's own application reaches its account: the `storage` part of its settings.

        `{"account_url"}` where identities are used, `{"connection_string"}` where keys are.
        """
        ...

    async def renew_key(self, resource_group: str, account: str, *, key: int) -> None:
        """Give the account a new key of this number: what the old one opened, it opens no more.

        Nothing where identities are used. Repeatable, with another key each time.
        """
        ...

    def backup_of(self, cluster: str) -> Blobs:
        """The backup account of a cluster; it stands outside every space's stack."""
        ...
