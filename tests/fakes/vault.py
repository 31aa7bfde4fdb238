"""Key Vaults in memory."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from spaces.errors import ConflictError, DeniedError, InvalidError, NotFoundError, WrongKeyError
from tests.fakes.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_WRAPPED = 190  # what RSA-OAEP-256 takes under a key of 2,048 bits


class FakeSecrets:
    """Vaults by URI, each made at first use."""

    def __init__(self) -> None:
        self.faults = Faults()
        self._versions: dict[tuple[str, str], list[str]] = {}
        self._disabled: dict[tuple[str, str], int] = {}
        self.protected: set[str] = set()
        """Vaults that keep what is deleted until their retention ends."""
        self._kept: set[tuple[str, str]] = set()

    async def get(self, vault: str, name: str) -> str | None:
        self.faults.before("get")
        versions = self._of(vault, name)
        return versions[-1] if versions else None

    async def create(self, vault: str, name: str, value: str) -> str:
        self.faults.before("create")
        versions = self._of(vault, name)
        if not versions:
            self._refuse_kept(vault, name)
            versions.append(value)
        self.faults.after("create")
        return versions[-1]

    async def put_version(self, vault: str, name: str, value: str) -> None:
        self.faults.before("put_version")
        self._refuse_kept(vault, name)
        self._of(vault, name).append(value)
        self.faults.after("put_version")

    async def disable_old(self, vault: str, name: str) -> None:
        self.faults.before("disable_old")
        versions = self._of(vault, name)
        self._disabled[vault.rstrip("/"), name] = max(len(versions) - 1, 0)
        self.faults.after("disable_old")

    async def delete(self, vault: str, name: str) -> bool:
        self.faults.before("delete")
        key = (vault.rstrip("/"), name)
        there = bool(self._versions.pop(key, None))
        self._disabled.pop(key, None)
        if there and vault.rstrip("/") in self.protected:
            self._kept.add(key)
        self.faults.after("delete")
        return key not in self._kept

    def readable(self, vault: str, name: str) -> list[str]:
        """The values that can still be read, the oldest first."""
        disabled = self._disabled.get((vault.rstrip("/"), name), 0)
        return self.versions(vault, name)[disabled:]

    def names(self, vault: str) -> list[str]:
        """The secrets there are."""
        home = vault.rstrip("/")
        return sorted(
            name for (at, name), values in self._versions.items() if at == home and values
        )

    def _refuse_kept(self, vault: str, name: str) -> None:
        if (vault.rstrip("/"), name) in self._kept:
            raise ConflictError("the secret is deleted and not purged", where=name)

    def versions(self, vault: str, name: str) -> list[str]:
        """Every value it ever had, the oldest first."""
        return list(self._of(vault, name))

    def _of(self, vault: str, name: str) -> list[str]:
        return self._versions.setdefault((vault.rstrip("/"), name), [])


class FakeKeys:
    """Keys named in advance; wrapping is a keyed stream with a tag, so that damage shows."""

    def __init__(
        self, vaults: Sequence[str], *, names: Sequence[str] = ("backup-kek",)
    ) -> None:
        self.faults = Faults()
        self._vaults = {vault.rstrip("/") for vault in vaults}
        self._versions = {(vault, name): 1 for vault in sorted(self._vaults) for name in names}

    async def wrap(self, vault: str, key: str, data: bytes) -> tuple[str, bytes]:
        self.faults.before("wrap")
        home = self._known(vault)
        version = self._versions.get((home, key))
        if version is None:
            raise NotFoundError(f"no key {key}", where=f"vault {vault}")
        if len(data) > _MOST_WRAPPED:
            raise InvalidError(f"more than {_MOST_WRAPPED} bytes cannot be wrapped")
        key_id = f"{home}/keys/{key}/{version:032x}"
        return key_id, _tag(key_id, data) + _mixed(key_id, data)

    async def unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        self.faults.before("unwrap")
        home = self._known(f"https://{urlsplit(key_id).netloc}")
        name, _, version = urlsplit(key_id).path.removeprefix("/keys/").partition("/")
        newest = self._versions.get((home, name), 0)
        if not version or not 1 <= int(version, 16) <= newest:
            raise NotFoundError(f"no key {key_id}")
        tag, mixed = wrapped[:32], wrapped[32:]
        data = _mixed(key_id, mixed)
        if not hmac.compare_digest(tag, _tag(key_id, data)):
            raise WrongKeyError("the key does not open this data", where=f"key {key_id}")
        return data

    def rotate(self, vault: str, key: str) -> None:
        """A new version; what older ones wrapped stays readable."""
        self._versions[self._known(vault), key] += 1

    def forget(self, vault: str, key: str) -> None:
        """Take the key away with all its versions."""
        del self._versions[self._known(vault), key]

    def _known(self, vault: str) -> str:
        if vault.rstrip("/") not in self._vaults:
            raise DeniedError("the key is in no vault of this estate", where=f"vault {vault}")
        return vault.rstrip("/")


def _mixed(key_id: str, data: bytes) -> bytes:
    stream = hashlib.shake_256(b"stream" + key_id.encode()).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))


def _tag(key_id: str, data: bytes) -> bytes:
    return hmac.digest(key_id.encode(), data, "sha256")
