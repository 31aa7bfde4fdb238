"""Sections of a manifest, decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from backups.database.model import DatabasePart, named_frames
from backups.files import model as files
from backups.local import facts
from backups.local.facts import DATABASE, Facts
from backups.store.manifest import read_long

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backups.store.manifest import Manifest
    from backups.store.packs import Piece


def database_part(manifest: Manifest) -> DatabasePart | None:
    """What the snapshot holds of a database; None where it holds none."""
    data = read_long(manifest, DATABASE)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=DatabasePart)
    except msgspec.MsgspecError as error:
        raise manifest.damaged(f"its part of the database: {error}") from error


def facts_of(manifest: Manifest) -> Facts:
    """What the run said of itself."""
    try:
        return msgspec.json.decode(manifest.read(facts.SECTION), type=Facts)
    except (KeyError, msgspec.MsgspecError) as error:
        raise manifest.damaged(f"what its run says: {error}") from error


def references(manifest: Manifest, *, own_only: bool = False) -> Iterator[tuple[Piece, str]]:
    """Every frame a restore of the snapshot reads, and whose bytes it holds.

    `own_only` leaves out pages of files that are the base's: whoever reads the base saw them.
    """
    part = database_part(manifest)
    if part is not None:
        for whose, frame in named_frames(part):
            for piece in frame.chain:
                yield piece, whose
    for section in files.page_sections(manifest):
        if own_only and not manifest.is_own(section):
            continue
        for entry in files.read_page(manifest, section):
            for chunk in entry.chunks:
                yield chunk.piece, f"file {entry.path}"


def affected_by(manifest: Manifest, pack: str, frames: set[int] | None = None) -> list[str]:
    """What of a snapshot lies in a pack, or in some frames of it."""
    packs = manifest.packs
    affected: dict[str, None] = {}
    for piece, whose in references(manifest):
        if packs[piece.pack].name == pack and (frames is None or piece.frame in frames):
            affected[whose] = None
    return list(affected)
