"""Hourly: what billing lists, compared with every space, both ways (control-plane.md 3.7, rule 7).

What can be healed is brought to the space on an event's own path, as if the event had come; what
cannot is seen as an alarm, looked at again within minutes, and raised when it is still so. Where
billing does not answer, or its list is not whole, nothing is concluded from what is missing in it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec

from provisioning import alarms, subscriptions
from provisioning.admit import bring
from provisioning.alarms import Finding, Kind
from provisioning.apply import Why, apply
from provisioning.billing import RejectedError
from provisioning.compare import is_news, of_listed, of_unlisted
from provisioning.hints import listed_as
from spaces.errors import DamagedError, KpaxError
from spaces.forgetting import nameless
from spaces.idempotency import digest
from spaces.ports import Subscription
from spaces.registry import Registry

if TYPE_CHECKING:
    from provisioning.alarms import Alarm
    from provisioning.billing import Told
    from spaces.model import Space
    from spaces.ports import Billing, Ports

log = logging.getLogger("kpax.reconciler")

ACTOR = "reconciler"
SOURCE = "/kpax/reconciler"
COMPARED = frozenset({Kind.PAID_WITHOUT_SPACE, Kind.SPACE_WITHOUT_PAYER, Kind.STATE_DIFFERENT})
# An event may be on its way for a moment, and an operation about to start.
SETTLES = timedelta(seconds=60)
# Raised even where nobody could look again, so that 15 minutes are never passed.
LONGEST_SILENCE = timedelta(minutes=9)
MOST_PAGES = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One difference and what became of it: healed, would-heal (dry run), or seen."""

    finding: Finding
    outcome: str


@dataclass(slots=True, kw_only=True)
class Report:
    """What a comparison found. Without `complete` nothing was concluded from what billing left out."""

    items: list[Item] = field(default_factory=list[Item])
    subscriptions: int = 0
    spaces: int = 0
    complete: bool = True
    reason: str = ""
    because: str | None = None


@dataclass(slots=True)
class _Listed:
    """The list as far as it came: the newest of each subject, and why it is not whole."""

    by_subject: dict[str, Subscription]
    reason: str = ""


async def run(ports: Ports, *, dry_run: bool = False, because: str | None = None) -> Report:
    """Compare everything once; repeatable, and two at once do no harm.

    `because` is why somebody asked for it; it stands in the audit entries of what is healed.
    """
    if ports.billing is None:
        return Report(complete=False, reason="no billing list is configured")
    listed = await _list(ports.billing)
    spaces = await Registry(
        ports.tables
    ).states()  # one query, not one per space (decision 0421)
    report = Report(
        subscriptions=len(listed.by_subject),
        spaces=len(spaces),
        complete=not listed.reason,
        reason=listed.reason,
        because=because,
    )
    of_subject = {space.subscription: space for space in spaces if space.subscription}
    of_order = {str(space.order_id): space for space in spaces}
    met: set[str] = set()
    for one in listed.by_subject.values():
        space = of_subject.get(one.subject) or of_order.get(one.order_id or "")
        if space is not None:
            met.add(space.space_id)
        await _compare(ports, report, one, space, dry_run=dry_run)
    if report.complete:
        for space in spaces:
            if space.space_id not in met:
                await _unlisted(ports, report, space, dry_run=dry_run)
    if not dry_run:
        await _settle_alarms(ports, report)
        log.info(
            "billing.reconciled",
            extra={
                "subscriptions": report.subscriptions,
                "spaces": report.spaces,
                "differences": len(report.items),
                "whole": report.complete,
            },
        )
    return report


async def look_again(ports: Ports) -> int:
    """Look once more at what was seen and not raised; answers how many alarms were raised."""
    raised = 0
    for alarm in await alarms.everything(ports):
        if alarm.closed_at is not None or alarm.told:
            continue
        age = ports.clock.now() - alarm.first_seen_at
        if alarm.raised_at is None and age < SETTLES:
            continue
        still = True if alarm.raised_at is not None else await _is_still_so(ports, alarm)
        if still is None and age < LONGEST_SILENCE:
            continue
        if still is False:
            await alarms.close(ports, alarm, by=ACTOR, reason="it is so no more")
            continue
        await alarms.tell(ports, alarm)
        raised += 1
    return raised


async def _list(billing: Billing) -> _Listed:
    """Every page. Billing's own count, where it tells one, says whether the list is whole."""
    found: dict[str, Subscription] = {}
    cursor: str | None = None
    total: int | None = None
    try:
        for _ in range(MOST_PAGES):
            page = await billing.page(cursor)
            for one in page.items:
                known = found.get(one.subject)
                if known is None or one.sequence > known.sequence:
                    found[one.subject] = one
            total = page.total if page.total is not None else total
            if page.next_cursor is None:
                break
            if page.next_cursor == cursor:
                raise DamagedError("billing's list leads to the same page again")
            cursor = page.next_cursor
        else:
            raise DamagedError(f"billing's list has more than {MOST_PAGES} pages")
    except KpaxError as error:
        return _Listed(found, reason=f"billing's list is not whole: {error.what}")
    if total is not None and len(found) < total:
        return _Listed(found, reason=f"billing lists {len(found)} of {total} subscriptions")
    return _Listed(found)


async def _compare(
    ports: Ports, report: Report, one: Subscription, space: Space | None, *, dry_run: bool
) -> None:
    try:
        told = _told(ports, one, space)
    except DamagedError as error:
        finding = Finding(kind=Kind.STATE_DIFFERENT, about=one.subject, detail=error.what)
        await _keep(ports, report, finding, dry_run=dry_run)
        return
    difference = of_listed(told, space, ports.clock.now())
    if difference is None:
        return
    if not difference.heals:
        await _keep(ports, report, difference.finding, dry_run=dry_run)
    elif dry_run:
        report.items.append(Item(finding=difference.finding, outcome="would-heal"))
    else:
        told = replace(told, because=report.because)
        left = await _heal(ports, told, space, difference.finding)
        if left is None:
            report.items.append(Item(finding=difference.finding, outcome="healed"))
        else:
            await _keep(ports, report, left, dry_run=False)


async def _unlisted(ports: Ports, report: Report, space: Space, *, dry_run: bool) -> None:
    """A space that the list leaves out: billing is asked for it by name before anything is said."""
    finding = of_unlisted(space, ports.clock.now())
    if finding is None or ports.billing is None:
        return
    if space.subscription is not None:
        try:
            found = await ports.billing.subscription(space.subscription)
        except KpaxError as error:
            report.complete, report.reason = False, f"billing did not answer: {error.what}"
            return
        if found is not None:
            await _compare(ports, report, found, space, dry_run=dry_run)
            return
    await _keep(ports, report, finding, dry_run=dry_run)


async def _heal(
    ports: Ports, told: Told, space: Space | None, finding: Finding
) -> Finding | None:
    """Bring billing's state to the space; answers what is still different then, if anything."""
    try:
        if told.state is not None and is_news(told.state, space.billing if space else None):
            known = await subscriptions.load(ports, told.subject)
            noted = await subscriptions.note(ports, told, known, message=-1)
            await bring(ports, told, noted, actor=ACTOR)
        elif space is not None and space.billing is not None:
            why = Why(
                source=SOURCE,
                cause_id=f"{told.cause_id}:{space.next_op_id()}",
                type=told.type,
                actor=ACTOR,
                because=told.because,
            )
            await apply(ports, space.space_id, told.subject, space.billing, why)
    except (KpaxError, RejectedError) as error:
        log.warning("difference.not_healed", extra={"reason": str(error)})
        return replace(finding, detail=f"{finding.detail}; it could not be healed: {error}")
    left = of_listed(told, await _space_of(ports, finding.space_id), ports.clock.now())
    log.info("difference.healed", extra={"space": finding.space_id, "whole": left is None})
    return left.finding if left is not None else None


async def _keep(ports: Ports, report: Report, finding: Finding, *, dry_run: bool) -> None:
    report.items.append(Item(finding=finding, outcome="seen"))
    if not dry_run:
        await alarms.see(ports, finding)


async def _settle_alarms(ports: Ports, report: Report) -> None:
    """Close what is found no more; note that billing cannot be asked, or that it can again."""
    silent = Finding(
        kind=Kind.BILLING_UNREACHABLE, about="billing", detail=report.reason or "no answer"
    )
    if not report.complete:
        await alarms.see(ports, silent)
    found = {item.finding.alarm_id for item in report.items if item.outcome == "seen"}
    for alarm in await alarms.everything(ports):
        if alarm.closed_at is not None or not report.complete or alarm.alarm_id in found:
            continue
        if alarm.kind in COMPARED or alarm.alarm_id == silent.alarm_id:
            await alarms.close(ports, alarm, by=ACTOR, reason="it is so no more")


async def _is_still_so(ports: Ports, alarm: Alarm) -> bool | None:
    """Whether what was seen is so now; None where billing cannot be asked."""
    if ports.billing is None:
        return None
    if alarm.kind not in COMPARED:
        return bool((await _list(ports.billing)).reason)
    try:
        return await _still_differs(ports, ports.billing, alarm)
    except DamagedError:
        return True
    except KpaxError:
        return None


async def _still_differs(ports: Ports, billing: Billing, alarm: Alarm) -> bool:
    found = await billing.subscription(alarm.about)
    space, now = await _space_of(ports, alarm.space_id), ports.clock.now()
    if found is None:
        missing = of_unlisted(space, now) if space is not None else None
        return missing is not None and missing.alarm_id == alarm.alarm_id
    told = _told(ports, found, space)
    difference = of_listed(told, space, now)
    if difference is not None and difference.heals:
        left = await _heal(ports, told, space, difference.finding)
        return left is not None and left.alarm_id == alarm.alarm_id
    return difference is not None and difference.finding.alarm_id == alarm.alarm_id


async def _space_of(ports: Ports, space_id: str | None) -> Space | None:
    if space_id is None:
        return None
    loaded = await Registry(ports.tables).load(space_id)
    return loaded.space if loaded is not None else None


def _told(ports: Ports, one: Subscription, space: Space | None) -> Told:
    """A listed subscription as an event of ours: one state has one id, however often it is found."""
    cause_id = (
        f"{one.sequence}:{digest(one.subject, msgspec.json.encode(one.snapshot).decode())}"
    )
    told = listed_as(one, source=SOURCE, cause_id=cause_id, now=ports.clock.now())
    if space is not None and space.tombstone is not None and told.state is not None:
        told = replace(told, state=nameless(told.state))
    own = space is not None and space.subscription == one.subject
    return replace(told, order_id=told.order_id or (space.order_id if own and space else None))
