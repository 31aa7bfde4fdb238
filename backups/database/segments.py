"""Which blocks of a heap make a segment: by bytes, what is kept out of line included. Pure.

104 KiB of heap can hold 256 MB out of line, so blocks alone say nothing. Bounds are kept from run
to run, so that a segment whose rows did not change can be skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backups.database.model import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence


MOST_BLOCKS = 256
SEGMENT_BYTES = 4 << 20
TOO_LARGE = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Blocks to look at: `start` to before `end`, and the segment that held them last time."""

    start: int
    end: int
    earlier: Segment | None = None

    @property
    def is_oversized(self) -> bool:
        """Whether its text outgrew a segment, and it can be cut."""
        return (
            self.earlier is not None
            and self.earlier.size > TOO_LARGE
            and self.end - self.start > 1
        )


def width(heap_bytes: int, toast_bytes: int) -> int:
    """Blocks of a segment where what is out of line is spread evenly."""
    if heap_bytes <= 0:
        return MOST_BLOCKS
    return max(1, min(MOST_BLOCKS, MOST_BLOCKS * heap_bytes // (heap_bytes + toast_bytes)))


def is_uneven(heap_bytes: int, toast_bytes: int) -> bool:
    """Whether most bytes are out of line: then blocks are weighed, not counted."""
    return toast_bytes > heap_bytes


def planned(blocks: int, each: int, earlier: Sequence[Segment]) -> list[Span]:
    """The whole heap, `blocks` long: the earlier segments' bounds, new ones where there were none.

    The last segment grows up to `each` blocks before a new one begins.
    """
    spans: list[Span] = []
    at = 0
    known = sorted(
        (segment for segment in earlier if segment.start < blocks),
        key=lambda segment: segment.start,
    )
    for number, segment in enumerate(known):
        spans += _even(at, segment.start, each)
        end = segment.end
        if number == len(known) - 1 and end < blocks:
            end = max(end, min(segment.start + each, blocks))
        spans.append(Span(start=segment.start, end=end, earlier=segment))
        at = end
    return spans + _even(at, blocks, each)


def _even(start: int, end: int, each: int) -> list[Span]:
    return [Span(start=at, end=min(at + each, end)) for at in range(start, end, each)]


def weighed(start: int, end: int, weights: Sequence[tuple[int, int]]) -> list[Span]:
    """Cut where the bytes of the blocks add up; `weights` are (block, bytes) in block order."""
    spans: list[Span] = []
    begin, total = start, 0
    for block, size in weights:
        full = total + size > SEGMENT_BYTES or block - begin >= MOST_BLOCKS
        if full and begin < block < end:
            spans.append(Span(start=begin, end=block))
            begin, total = block, 0
        total += size
    if begin < end:
        spans.append(Span(start=begin, end=end))
    return spans


def sampled(count: int, most: int = 8) -> list[int]:
    """A few indices, spread over `count`: do they all differ, the rest need not be asked."""
    if count <= most:
        return list(range(count))
    return [index * (count - 1) // (most - 1) for index in range(most)]
