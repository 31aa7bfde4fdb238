"""Attachments into packs and back, one file at a time.

Small files share a pack of about 16 MiB, so that ten thousand of them do not cost ten thousand
calls; a larger file has a pack of its own. Within a pack the files follow each other without a
gap, in the order of the contents.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING

from backups.manifest import Attachment, ObjectRef
from backups.objects import measured
from backups.sealing import damaged
from spaces.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from backups.engine import Files
    from backups.objects import Draft, Objects
    from spaces.ports import BlobInfo

PACK_BYTES = 16 << 20
_PIECE = 1 << 20


async def packed(
    files: Files, objects: Objects, name_of: Callable[[int], str]
) -> tuple[list[Attachment], list[ObjectRef]]:
    """Store every file of the container; `name_of` names the packs by their numbers.

    A file that is gone by the time it is read was deleted while the backup ran, and is left out.
    """
    attachments: list[Attachment] = []
    packs: list[ObjectRef] = []
    draft: Draft | None = None
    path = objects.folder / "attachment"
    async for info in files.blobs.list(files.container):
        try:
            await files.blobs.download(files.container, info.name, path)
        except NotFoundError:
            continue
        if draft is not None and draft.plain_bytes + info.size > PACK_BYTES:
            packs.append(await objects.store(draft))
            draft = None
        draft = draft or objects.begin(name_of(len(packs)))
        size_bytes, sha256 = await asyncio.to_thread(_poured, path, draft)
        attachments.append(_attachment(info, size_bytes, sha256, len(packs)))
    if draft is not None:
        packs.append(await objects.store(draft))
    path.unlink(missing_ok=True)
    return attachments, packs


async def unpacked(
    objects: Objects,
    packs: Sequence[ObjectRef],
    attachments: Sequence[Attachment],
    files: Files,
) -> None:
    """Write every file into the container, each compared with its hash before. Repeatable."""
    await files.blobs.ensure_container(files.container)
    path = objects.folder / "attachment"
    for pack, inside in zip(packs, _by_pack(attachments, len(packs)), strict=True):
        async with objects.fetched(pack) as frames:
            stream = _Stream(frames)
            for each in inside:
                if await asyncio.to_thread(stream.take, each.size_bytes, path) != each.sha256:
                    raise damaged(pack.name, "an attachment in it is not what was stored")
                await files.blobs.create(
                    files.container,
                    each.name,
                    path,
                    content_type=each.content_type,
                    metadata=each.metadata,
                )
            stream.expect_end(pack.name)
    path.unlink(missing_ok=True)


async def reread(
    objects: Objects, packs: Sequence[ObjectRef], attachments: Sequence[Attachment]
) -> None:
    """Read every pack and compare every attachment in it, without writing one."""
    for pack, inside in zip(packs, _by_pack(attachments, len(packs)), strict=True):
        async with objects.fetched(pack) as frames:
            stream = _Stream(frames)
            for each in inside:
                if await asyncio.to_thread(stream.take, each.size_bytes, None) != each.sha256:
                    raise damaged(pack.name, "an attachment in it is not what was stored")
            stream.expect_end(pack.name)


async def differences(
    files: Files, attachments: Sequence[Attachment], folder: Path
) -> list[str]:
    """How many files of the container are not as said, each read in full; empty when all are."""
    expected = {each.name: each for each in attachments}
    path = folder / "attachment"
    wrong = 0
    async for info in files.blobs.list(files.container):
        each = expected.pop(info.name, None)
        if each is None:
            wrong += 1
            continue
        await files.blobs.download(files.container, info.name, path)
        found = await asyncio.to_thread(measured, path)
        if (*found, info.content_type) != (each.size_bytes, each.sha256, each.content_type):
            wrong += 1
    path.unlink(missing_ok=True)
    found_wrong = [f"{wrong} attachments are not what was stored"] if wrong else []
    return found_wrong + ([f"{len(expected)} attachments are missing"] if expected else [])


class _Stream:
    """Cuts the frames of a pack into the files that were poured into it."""

    def __init__(self, frames: Iterator[bytes]) -> None:
        self._frames = frames
        self._rest: bytes = b""

    def take(self, size_bytes: int, path: Path | None) -> str:
        """The SHA-256 of the next bytes, written to `path` where there is one."""
        digest = hashlib.sha256()
        left = size_bytes
        with path.open("wb") if path else _Nowhere() as target:
            while left:
                if not self._rest:
                    self._rest = next(self._frames, b"")
                    if not self._rest:
                        break
                part, self._rest = self._rest[:left], self._rest[left:]
                digest.update(part)
                target.write(part)
                left -= len(part)
        return digest.hexdigest()

    def expect_end(self, name: str) -> None:
        """Raise when more is in the pack: what nobody names must not be there."""
        if self._rest or next(self._frames, b""):
            raise damaged(name, "it holds more than the backup says")


class _Nowhere:
    """A file that forgets what is written."""

    def __enter__(self) -> _Nowhere:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def write(self, data: bytes, /) -> int:
        return len(data)


def _poured(path: Path, draft: Draft) -> tuple[int, str]:
    digest, size_bytes = hashlib.sha256(), 0
    with path.open("rb") as source:
        while part := source.read(_PIECE):
            digest.update(part)
            draft.write(part)
            size_bytes += len(part)
    return size_bytes, digest.hexdigest()


def _attachment(info: BlobInfo, size_bytes: int, sha256: str, pack: int) -> Attachment:
    return Attachment(
        name=info.name,
        size_bytes=size_bytes,
        sha256=sha256,
        content_type=info.content_type,
        metadata=dict(info.metadata),
        pack=pack,
    )


def _by_pack(attachments: Sequence[Attachment], packs: int) -> list[list[Attachment]]:
    """The attachments of each pack, in their order."""
    found: list[list[Attachment]] = [[] for _ in range(packs)]
    for each in attachments:
        found[each.pack].append(each)
    return found
