"""The data key of a space: made once, wrapped by the regional key, kept beside the backups.

It is stored create-only under one name, so that two runs cannot make two. The blob is not under
immutability: erasing it is how a space's backups are erased. Only the key that wraps it, which
stands in the cluster's vault, can open it.
"""

from __future__ import annotations

import base64
import hashlib
import os
from typing import TYPE_CHECKING, Literal

import msgspec

from backups.manifest import MANIFESTS
from backups.sealing import KEY_BYTES, damaged
from spaces import names
from spaces.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from backups.engine import Store
    from spaces.ports import Keys

KEYS = "k/"
KEY_NAME = f"{KEYS}0001"


class _Wrapped(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The blob: which key wraps, the wrapped bytes, and a sum over both that tells of damage."""

    version: Literal[1] = 1
    space_id: str
    key_id: str
    wrapped: str
    sha256: str

    def sum(self) -> str:
        told = f"{self.version}\n{self.space_id}\n{self.key_id}\n{self.wrapped}"
        return hashlib.sha256(told.encode()).hexdigest()


async def existing(keys: Keys, store: Store) -> bytes:
    """The space's data key. Raises `DamagedError` when it is missing or not what was stored.

    `WrongKeyError` means that the regional key is not the one that wrapped it.
    """
    try:
        raw = await store.blobs.read(store.container, KEY_NAME)
    except NotFoundError as error:
        raise damaged(KEY_NAME, "the space's data key is missing") from error
    try:
        found = msgspec.json.decode(raw, type=_Wrapped)
        wrapped = base64.b64decode(found.wrapped, validate=True)
    except (msgspec.MsgspecError, ValueError) as error:
        raise damaged(KEY_NAME, "it cannot be read") from error
    if msgspec.json.encode(found) != raw or found.sum() != found.sha256:
        raise damaged(KEY_NAME, "its sum does not fit")
    if found.space_id != store.space_id:
        raise damaged(KEY_NAME, "it is another space's")
    return await keys.unwrap(found.key_id, wrapped)


async def ensured(keys: Keys, store: Store) -> bytes:
    """The space's data key, made when there is none and no backup needs an earlier one."""
    await store.blobs.ensure_container(store.container)
    if await store.blobs.info(store.container, KEY_NAME) is not None:
        return await existing(keys, store)
    async for _ in store.blobs.list(store.container, prefix=MANIFESTS):
        raise damaged(KEY_NAME, "the space's data key is missing, and backups need it")
    data_key = os.urandom(KEY_BYTES)
    key_id, wrapped = await keys.wrap(store.vault, names.BACKUP_KEY, data_key)
    unsummed = _Wrapped(
        space_id=store.space_id,
        key_id=key_id,
        wrapped=base64.b64encode(wrapped).decode(),
        sha256="",
    )
    raw = msgspec.json.encode(msgspec.structs.replace(unsummed, sha256=unsummed.sum()))
    try:
        await store.blobs.create(store.container, KEY_NAME, raw)
    except ConflictError:
        return await existing(keys, store)  # another run was first: its key is the space's key
    return data_key
