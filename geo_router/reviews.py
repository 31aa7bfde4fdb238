"""Decide existing spaces again: daily, and whenever the rules are another edition.

Nothing moves by itself. A space that may not simply stay gets a row, an audit entry and the event
`residency.review_required`, all in one transaction with its state; a person does the rest. The
same outcome under the same edition is written once, however often the job runs.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from datetime import UTC
from itertools import batched
from typing import TYPE_CHECKING

import msgspec

from geo_router import tables
from geo_router.rulebook.reevaluate import Review, Standing, Stored, review
from spaces import audit
from spaces.errors import ConflictError, KpaxError, LostRaceError
from spaces.model import Status
from spaces.ports import Insert, Put
from spaces.registry import SPACES, Change, Event, Registry

if TYPE_CHECKING:
    from geo_router.tables import Tables
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.registry import Loaded

log = logging.getLogger("kpax.geo_router")

RUNS, RUN = "reviews", "run"
ROW = "review"
PAGE = 50
RACES = 5
FAILED = "failed"
HOLDS_DATA = (Status.ACTIVE, Status.SUSPENDED, Status.CANCELLED)
"""Statuses with a customer's data somewhere; what is only ordered is decided by its own steps."""

EVENT = "residency.review_required"
SOURCE = "residency-review"


class ReviewView(msgspec.Struct, frozen=True, kw_only=True):
    """A space whose place was found to be another than a new request would get, and since when."""

    space_id: str
    name: str
    cluster: str
    standing: str
    today: str | None
    """The cluster that a new request would get; null where it would get none."""
    rules: list[str]
    data_version: str
    data_hash: str
    day: str
    needs_a_person: bool


class ReviewList(msgspec.Struct, frozen=True, kw_only=True):
    """Spaces that may not simply stay first, then those that would be better off elsewhere."""

    items: list[ReviewView]


class StoredView(msgspec.Struct, frozen=True, kw_only=True):
    """A space with the canonical request that it was opened on."""

    space_id: str
    cluster: str
    request: dict[str, object]


class StoredList(msgspec.Struct, frozen=True, kw_only=True):
    """What a change of the rules is compared on."""

    items: list[StoredView]


async def run(ports: Ports, rules: Tables | None = None) -> dict[str, int] | None:
    """Review every space once for this edition and day; answers the counts, None where it was done.

    A run that was cut off, or failed on some, goes through all spaces again and writes only what is
    missing.
    """
    rules = rules or tables.load()
    now = ports.clock.now()
    day = now.astimezone(UTC).date().isoformat()
    partition = f"{day}!{rules.hash.partition(':')[2]}"
    if await ports.tables.get(RUNS, partition, RUN) is not None:
        return None
    registry, counts = Registry(ports.tables), Counter[str]()
    for page in batched(await registry.ids(), PAGE, strict=False):
        for space_id in page:
            counts[await _counted(ports, registry, rules, space_id, day)] += 1
        log.info("residency.page_reviewed", extra={"spaces": len(page)})
    if counts[FAILED]:
        log.warning("residency.review_incomplete", extra={"failed": counts[FAILED]})
        return dict(counts)  # the next firing goes through all spaces again
    values = {"version": rules.version, "at": now, "counts": json.dumps(counts, sort_keys=True)}
    try:
        await ports.tables.commit(RUNS, partition, [Insert(RUN, values)])
    except ConflictError:
        return None  # another process was as quick; it wrote the same
    log.info("residency.reviewed", extra={"data_version": rules.version, **counts})
    return dict(counts)


async def listed(ports: Ports) -> ReviewList:
    """The spaces whose last review found anything but `same`."""
    rows = await ports.tables.query(SPACES, key_from=ROW, key_below=ROW + "!")
    found = [msgspec.json.decode(str(row.values["doc"]), type=ReviewView) for row in rows]
    shown = [one for one in found if one.standing != Standing.SAME]
    return ReviewList(
        items=sorted(shown, key=lambda one: (not one.needs_a_person, one.space_id))
    )


async def stored(ports: Ports) -> StoredList:
    """The request of every space that holds data."""
    registry = Registry(ports.tables)
    items: list[StoredView] = []
    for space_id in await registry.ids():
        loaded = await registry.load(space_id)
        if loaded is not None and loaded.space.status in HOLDS_DATA:
            one = _stored(loaded.space)
            items.append(
                StoredView(space_id=one.space_id, cluster=one.cluster, request=one.request)
            )
    return StoredList(items=items)


async def _counted(
    ports: Ports, registry: Registry, rules: Tables, space_id: str, day: str
) -> str:
    """What a space counts as; one that cannot be read or written does not keep the others."""
    try:
        standing = await _settle(ports, registry, rules, space_id, day)
    except KpaxError as error:
        log.warning("residency.not_reviewed", extra={"space": space_id, "reason": str(error)})
        return FAILED
    return standing or "not-reviewed"


async def _settle(
    ports: Ports, registry: Registry, rules: Tables, space_id: str, day: str
) -> Standing | None:
    """Review one space and write what is new; None where there is nothing to review."""
    for _ in range(RACES):
        loaded = await registry.load(space_id)
        if loaded is None or loaded.space.status not in HOLDS_DATA:
            return None
        (found,) = review(rules, [_stored(loaded.space)], today=day)
        view = _view(loaded.space, found, rules, day)
        row = await ports.tables.get(SPACES, space_id, ROW)
        before = (
            None
            if row is None
            else msgspec.json.decode(str(row.values["doc"]), type=ReviewView)
        )
        if not _is_news(before, view):
            if before is not None and before.day == day:
                await _tell_again(ports, registry, space_id)
            return found.standing
        try:
            await _write(ports, registry, loaded, view)
        except LostRaceError:
            continue  # the space moved on: look again
        return found.standing
    raise LostRaceError("the space keeps changing", where=f"space {space_id}")


def _is_news(before: ReviewView | None, now: ReviewView) -> bool:
    """Whether a review says something that the row does not; `same` after `same` never does."""
    if now.standing == Standing.SAME:
        return before is not None and before.standing != Standing.SAME
    return before is None or _outcome(before) != _outcome(now)


async def _tell_again(ports: Ports, registry: Registry, space_id: str) -> None:
    """The run of this very day may have died between writing and telling.

    The queue drops the events that it knows.
    """
    _, events = await registry.promised(space_id)
    if events:
        await ports.bus.send(events)


async def _write(ports: Ports, registry: Registry, loaded: Loaded, view: ReviewView) -> None:
    space, outcome = loaded.space, _outcome(view)
    told: dict[str, str | int | bool | None] = {
        "standing": view.standing,
        "cluster": view.cluster,
        "today": view.today,
        "rules": ", ".join(view.rules),
        "data_version": view.data_version,
        "data_hash": view.data_hash,
    }
    # Days can bring a standing back under one edition: the row follows, nobody is told twice.
    first = not await registry.has_seen(space.space_id, SOURCE, outcome)
    change = Change(
        space=space,
        entry=audit.Entry(
            act="residency.reviewed", actor="geo-router", obj=space.space_id, detail=told
        ),
        inbox=(SOURCE, outcome) if first else None,
        events=(Event(type=EVENT, data={**told}),) if first and view.needs_a_person else (),
        rows=(Put(ROW, {"doc": msgspec.json.encode(view).decode()}),),
    )
    promised = await registry.commit(loaded, change, now=ports.clock.now())
    log.info(
        "residency.outcome_changed",
        extra={
            "space": space.space_id,
            "cluster": space.cluster,
            "standing": view.standing,
            "today": view.today,
        },
    )
    if view.needs_a_person:
        log.warning(
            EVENT,
            extra={
                "space": space.space_id,
                "cluster": space.cluster,
                "see": "docs/running.md#residency.review_required",
            },
        )
    await ports.bus.send(promised)


def _stored(space: Space) -> Stored:
    """The request of a space, from the country that its customer moved to since, if any."""
    request: dict[str, object] = json.loads(space.route_request)
    if space.billing is not None and space.billing.country_sequence >= 0:
        request["country"] = space.billing.country
    return Stored(space_id=space.space_id, cluster=space.cluster, request=request)


def _view(space: Space, found: Review, rules: Tables, day: str) -> ReviewView:
    return ReviewView(
        space_id=space.space_id,
        name=space.name,
        cluster=space.cluster,
        standing=found.standing.value,
        today=found.today,
        rules=list(found.rules),
        data_version=rules.version,
        data_hash=rules.hash,
        day=day,
        needs_a_person=found.needs_a_person,
    )


def _outcome(view: ReviewView) -> str:
    """What makes two reviews the same: edition, standing and both places; not the day."""
    return f"{view.data_hash} {view.standing} {view.cluster} {view.today or '-'}"
