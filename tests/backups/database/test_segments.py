"""Which blocks make a segment, for any heap and any earlier segments."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from backups.database import segments
from backups.database.model import Frame, Segment


def a_segment(start: int, end: int, size: int = 0) -> Segment:
    return Segment(start, end, 1, 1, 0, [Frame(size, b"", 7, [])] if size else [])


@st.composite
def earlier(draw: st.DrawFn) -> list[Segment]:
    """Segments that overlap nowhere, with gaps, in any order."""
    bounds = sorted(draw(st.sets(st.integers(0, 2000), max_size=20)))
    found = [
        a_segment(low, high) for low, high in itertools.pairwise(bounds) if draw(st.booleans())
    ]
    return draw(st.permutations(found))


@given(st.integers(0, 3000), st.integers(1, 256), earlier())
def test_spans_cover_every_block_once(blocks: int, each: int, known: list[Segment]) -> None:
    spans = segments.planned(blocks, each, known)
    covered = [block for span in spans for block in range(span.start, span.end)]
    assert len(covered) == len(set(covered))
    assert set(range(blocks)) <= set(covered)
    for span in spans:
        if span.earlier is not None:
            assert (span.start, span.end) >= (span.earlier.start, span.earlier.end)


def test_the_last_segment_grows_before_a_new_one_begins() -> None:
    spans = segments.planned(300, 256, [a_segment(0, 100)])
    assert [(span.start, span.end) for span in spans] == [(0, 256), (256, 300)]


def test_a_heap_that_shrank_has_no_spans_behind_its_end() -> None:
    spans = segments.planned(10, 4, [a_segment(n, n + 4) for n in range(0, 40, 4)])
    assert [span.start for span in spans] == [0, 4, 8]


@given(st.lists(st.integers(0, 6 << 20), min_size=1, max_size=600))
def test_weighed_spans_hold_what_a_segment_may_unless_one_block_holds_more(
    sizes: list[int],
) -> None:
    spans = segments.weighed(0, len(sizes), list(enumerate(sizes)))
    assert [block for s in spans for block in range(s.start, s.end)] == list(range(len(sizes)))
    for span in spans:
        weight = sum(sizes[span.start : span.end])
        assert weight <= segments.SEGMENT_BYTES or span.end - span.start == 1
        assert span.end - span.start <= segments.MOST_BLOCKS


def test_width_follows_what_is_out_of_line() -> None:
    assert segments.width(1 << 30, 0) == 256
    assert segments.width(1 << 20, 1 << 20) == 128
    assert segments.width(8192, 1 << 30) == 1
    assert segments.width(0, 0) == 256
