"""The doors beside the queue: billing's list is compared by timers, and people see the alarms."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, cast

import azure.functions as func
import msgspec

from provisioning import alarms, reconcile
from spaces.http import Reply, Request, endpoint
from spaces.messages import Reason
from spaces.wiring import ports

if TYPE_CHECKING:
    from provisioning.alarms import Alarm

blueprint = func.Blueprint()


class ReconcileRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Asks for a comparison now; with `dry_run` nothing is changed. What is healed keeps `reason`."""

    dry_run: bool = False
    reason: Reason | None = None


class DifferenceView(msgspec.Struct, frozen=True, kw_only=True):
    """One thing in which billing and a space differ; `outcome` is healed, would-heal or seen."""

    kind: str
    about: str
    space_id: str | None
    order_id: str | None
    detail: str
    outcome: str


class ReconcileView(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison. Without `complete`, what billing left out says nothing; `reason` tells why."""

    items: list[DifferenceView]
    subscriptions: int
    spaces: int
    complete: bool
    reason: str


class AlarmView(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a person must look at; seen at first, then raised, in the end closed."""

    alarm_id: str
    kind: str
    about: str
    space_id: str | None
    order_id: str | None
    detail: str
    first_seen_at: datetime
    raised_at: datetime | None
    closed_at: datetime | None
    closed_by: str | None
    close_reason: str | None


class AlarmList(msgspec.Struct, frozen=True, kw_only=True):
    """Alarms, oldest first."""

    items: list[AlarmView]


class CloseRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why an alarm needs no more looking after."""

    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


@blueprint.function_name("provisioning_reconcile")
@blueprint.timer_trigger(arg_name="timer", schedule="%KPAX_RECONCILE_SCHEDULE%")
async def on_reconcile(timer: func.TimerRequest) -> None:
    """Compare billing's list with all spaces."""
    del timer
    await reconcile.run(ports())


@blueprint.function_name("provisioning_look_again")
@blueprint.timer_trigger(arg_name="timer", schedule="30 */5 * * * *")
async def on_look_again(timer: func.TimerRequest) -> None:
    """Raise what was seen and is still so; three looks fit into the 15 minutes it may take."""
    del timer
    await reconcile.look_again(ports())


@endpoint(
    blueprint,
    "POST",
    "/billing/reconciliations",
    name="billing_reconcile",
    action="billing.reconcile",
    summary="Compare billing's list with all spaces now",
    body=ReconcileRequest,
    response=ReconcileView,
    idempotent=True,
    key_optional=True,
)
async def reconcile_now(request: Request) -> Reply:
    """One comparison."""
    asked = cast("ReconcileRequest", request.body)
    report = await reconcile.run(request.ports, dry_run=asked.dry_run, because=asked.reason)
    view = ReconcileView(
        items=[
            DifferenceView(
                kind=item.finding.kind.value,
                about=item.finding.about,
                space_id=item.finding.space_id,
                order_id=item.finding.order_id,
                detail=item.finding.detail,
                outcome=item.outcome,
            )
            for item in report.items
        ],
        subscriptions=report.subscriptions,
        spaces=report.spaces,
        complete=report.complete,
        reason=report.reason,
    )
    return Reply(body=view)


@endpoint(
    blueprint,
    "GET",
    "/alarms",
    name="alarms_list",
    action="alarm.list",
    summary="What a person must look at; all=true with what is closed or only seen",
    response=AlarmList,
    query=("all",),
)
async def list_alarms(request: Request) -> Reply:
    """Raised alarms that are open, or all of them."""
    everything = request.query.get("all") == "true"
    found = await alarms.everything(request.ports)
    shown = [
        one
        for one in found
        if everything or (one.raised_at is not None and one.closed_at is None)
    ]
    return Reply(body=AlarmList(items=[_view(one) for one in shown]))


@endpoint(
    blueprint,
    "POST",
    "/alarms/{alarm_id}/close",
    name="alarms_close",
    action="alarm.close",
    summary="Close an alarm that was looked after",
    body=CloseRequest,
    response=AlarmView,
    idempotent=True,
    key_optional=True,
    problems=("not-found",),
)
async def close_alarm(request: Request) -> Reply:
    """One alarm, closed."""
    alarm_id = request.params["alarm_id"]
    alarm = await alarms.get(request.ports, alarm_id)
    reason = cast("CloseRequest", request.body).reason
    await alarms.close(request.ports, alarm, by=request.principal.subject, reason=reason)
    return Reply(body=_view(await alarms.get(request.ports, alarm_id)))


def _view(alarm: Alarm) -> AlarmView:
    return AlarmView(
        alarm_id=alarm.alarm_id,
        kind=alarm.kind,
        about=alarm.about,
        space_id=alarm.space_id,
        order_id=alarm.order_id,
        detail=alarm.detail,
        first_seen_at=alarm.first_seen_at,
        raised_at=alarm.raised_at,
        closed_at=alarm.closed_at,
        closed_by=alarm.closed_by,
        close_reason=alarm.close_reason,
    )
