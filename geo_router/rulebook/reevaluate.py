"""Decide existing spaces again: after a change of the rules, and daily, because days change law.

Nothing moves by itself: a space that is no longer lawful where it is becomes a case for a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from geo_router import decide, reading
from geo_router.model import Decision

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from geo_router.tables import Tables


class Standing(StrEnum):
    """How a space stands under the rules of the day."""

    SAME = "same"
    STILL_ALLOWED = "still-allowed"
    NOT_ALLOWED = "not-allowed"
    CONDITION_EXPIRED = "condition-expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A space as it was opened: where, and on which canonical request."""

    space_id: str
    cluster: str
    request: dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """The standing of one space, and the place that a new request would get today."""

    space_id: str
    cluster: str
    standing: Standing
    today: str | None
    """The cluster that a new request would get; None where it would get none."""
    rules: tuple[str, ...]

    @property
    def needs_a_person(self) -> bool:
        """Whether the space may not simply stay."""
        return self.standing in (Standing.NOT_ALLOWED, Standing.CONDITION_EXPIRED)


def review(rules: Tables, spaces: Iterable[Stored], *, today: str) -> Iterator[Review]:
    """One review for each space, in order; a request that cannot be read any more is not allowed."""
    for space in spaces:
        yield _review(rules, space, today)


def _review(rules: Tables, space: Stored, today: str) -> Review:
    try:
        request, day = reading.read(rules, space.request)
    except reading.BadRequestError:
        return Review(
            space_id=space.space_id,
            cluster=space.cluster,
            standing=Standing.NOT_ALLOWED,
            today=None,
            rules=(),
        )
    on = day or today
    verdict = decide.decide(rules, request, today=on, open_now=rules.every_cluster)
    here = rules.cluster_numbers.get(space.cluster)
    chosen = verdict.cluster if verdict.decision is Decision.ALLOWED else None
    could = rules.every_cluster
    for one in verdict.fired:
        could &= 0 if one.part.refusal else decide.possible(rules, one.part, on)
    if here is None:
        standing = Standing.NOT_ALLOWED  # a cluster that is no more
    elif chosen == here:
        standing = Standing.SAME
    elif verdict.stages.strict >> here & 1:
        standing = Standing.STILL_ALLOWED
    elif could >> here & 1 and not verdict.stages.law >> here & 1:
        standing = Standing.CONDITION_EXPIRED
    else:
        standing = Standing.NOT_ALLOWED
    return Review(
        space_id=space.space_id,
        cluster=space.cluster,
        standing=standing,
        today=None if chosen is None else rules.clusters[chosen].id,
        rules=tuple(dict.fromkeys(one.rule.id for one in verdict.fired)),
    )
