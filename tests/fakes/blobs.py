"""Storage accounts in memory."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spaces.errors import ConflictError, InvalidError, NotFoundError
from spaces.ports import BlobInfo
from tests.fakes.faults import Faults

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class _Blob:
    data: bytes
    info: BlobInfo


class FakeBlobs:
    def __init__(self) -> None:
        self.faults = Faults()
        self._containers: dict[str, dict[str, _Blob]] = {}
        self._version = 0
        self.immutable: set[str] = set()
        """Prefixes of names that a policy keeps from being deleted."""

    async def ensure_container(self, container: str) -> None:
        self.faults.before("ensure_container")
        self._containers.setdefault(container, {})
        self.faults.after("ensure_container")

    async def delete_container(self, container: str) -> None:
        self.faults.before("delete_container")
        self._containers.pop(container, None)
        self.faults.after("delete_container")

    async def create(
        self,
        container: str,
        name: str,
        data: bytes | Path,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        self.faults.before("create")
        content = data if isinstance(data, bytes) else data.read_bytes()  # noqa: ASYNC240 — a test file
        blobs = self._container(container)
        there = blobs.get(name)
        if there is not None:
            if there.data != content:
                raise ConflictError(
                    "other bytes are stored under this name", where=f"{container}/{name}"
                )
            return there.info.etag
        etag = self.put(
            container, name, content, content_type=content_type, metadata=metadata or {}
        )
        self.faults.after("create")
        return etag

    async def read(self, container: str, name: str) -> bytes:
        self.faults.before("read")
        return self._blob(container, name).data

    async def download(self, container: str, name: str, path: Path) -> None:
        self.faults.before("download")
        path.write_bytes(self._blob(container, name).data)  # noqa: ASYNC240 — a test file

    async def info(self, container: str, name: str) -> BlobInfo | None:
        self.faults.before("info")
        blob = self._containers.get(container, {}).get(name)
        return blob.info if blob is not None else None

    async def list(self, container: str, *, prefix: str = "") -> AsyncIterator[BlobInfo]:
        self.faults.before("list")
        for name, blob in sorted(self._containers.get(container, {}).items()):
            if name.startswith(prefix):
                yield blob.info

    async def delete(self, container: str, name: str) -> None:
        self.faults.before("delete")
        there = name in self._containers.get(container, {})
        if there and any(name.startswith(prefix) for prefix in self.immutable):
            raise ConflictError("the blob is kept by a policy [409 BlobImmutableDueToPolicy]")
        self._containers.get(container, {}).pop(name, None)
        self.faults.after("delete")

    # --- for tests

    def put(
        self,
        container: str,
        name: str,
        data: bytes,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Store or overwrite, as a space's own application or an intruder would."""
        self._version += 1
        info = BlobInfo(
            name=name,
            size=len(data),
            etag=f"0x{self._version:016X}",
            content_type=content_type or "application/octet-stream",
            metadata={**(metadata or {}), "sha256": hashlib.sha256(data).hexdigest()},
        )
        self._container(container)[name] = _Blob(data, info)
        return info.etag

    def flip(self, container: str, name: str, at: int = 0) -> None:
        """Change one byte of what is stored."""
        blob = self._blob(container, name)
        data = bytearray(blob.data)
        data[at] ^= 1
        self._containers[container][name] = _Blob(bytes(data), blob.info)

    def containers(self) -> list[str]:
        return sorted(self._containers)

    def _container(self, name: str) -> dict[str, _Blob]:
        if name not in self._containers:
            raise NotFoundError("no such container", where=name)
        return self._containers[name]

    def _blob(self, container: str, name: str) -> _Blob:
        blob = self._containers.get(container, {}).get(name)
        if blob is None:
            raise NotFoundError("no such blob", where=f"{container}/{name}")
        return blob


@dataclass(slots=True)
class FakeAccounts:
    """One `FakeBlobs` per account, made at first use."""

    clusters: tuple[str, ...]
    shared_keys: bool = True
    spaces: dict[str, FakeBlobs] = field(default_factory=dict[str, FakeBlobs])
    backups: dict[str, FakeBlobs] = field(default_factory=dict[str, FakeBlobs])
    faults: Faults = field(default_factory=Faults)
    keys: dict[tuple[str, int], int] = field(default_factory=dict[tuple[str, int], int])

    async def of_space(
        self, resource_group: str, account: str, endpoint: str, *, key: int = 1
    ) -> FakeBlobs:
        self.faults.before("of_space")
        return self.spaces.setdefault(account, FakeBlobs())

    async def connection_of_space(
        self, resource_group: str, account: str, endpoint: str, *, key: int = 1
    ) -> dict[str, str]:
        self.faults.before("connection_of_space")
        if not self.shared_keys:
            return {"account_url": endpoint}
        secret = base64.b64encode(f"key{key}/{self.keys.get((account, key), 0)}".encode())
        scheme = endpoint.partition("://")[0]
        return {
            "connection_string": (
                f"DefaultEndpointsProtocol={scheme};AccountName={account};AccountKey={secret.decode()};"
                f"BlobEndpoint={endpoint.rstrip('/')};"
            )
        }

    async def renew_key(self, resource_group: str, account: str, *, key: int) -> None:
        self.faults.before("renew_key")
        if self.shared_keys:
            self.keys[account, key] = self.keys.get((account, key), 0) + 1
        self.faults.after("renew_key")

    def backup_of(self, cluster: str) -> FakeBlobs:
        if cluster not in self.clusters:
            raise InvalidError(f"cluster {cluster} has no backup account")
        return self.backups.setdefault(cluster, FakeBlobs())
