"""The doors of backups: the nightly timer, the run queue, the removal of old data, HTTP."""

from __future__ import annotations

from typing import cast

import azure.functions as func
import msgspec

from backups import api, nightly
from backups.places import Places
from backups.plans import QUEUE, plans
from spaces.http import Reply, Request, endpoint
from spaces.messages import Poke, RunRequest
from spaces.saga import dead
from spaces.saga.runner import advance
from spaces.settings import settings
from spaces.views import OperationView
from spaces.wiring import ports

blueprint = func.Blueprint()

RETRY_AFTER_S = "2"


@blueprint.function_name("backup_every_night")
@blueprint.timer_trigger(arg_name="timer", schedule="%KPAX_BACKUP_SCHEDULE%")
async def every_night(timer: func.TimerRequest) -> None:
    """One message per space that is due."""
    del timer
    await nightly.send_due(ports(), settings())


@blueprint.function_name("backup_on_run")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name=QUEUE, connection="ServiceBus"
)
async def on_run(message: func.ServiceBusMessage) -> None:
    """A request starts a backup; a poke moves a backup or a restore by one step."""
    told = decoded(message.get_body())
    if isinstance(told, RunRequest):
        await nightly.start(ports(), told)
        return
    await advance(
        ports(),
        plans(),
        told,
        message_id=message.message_id or "",
        floor_s=settings().poll_floor_s,
    )


@blueprint.function_name("backup_on_dead_run")
@blueprint.service_bus_queue_trigger(
    arg_name="message", queue_name=f"{QUEUE}/$DeadLetterQueue", connection="ServiceBus"
)
async def on_dead_run(message: func.ServiceBusMessage) -> None:
    """A poke or a request that nobody could work on: an operator's, or kept with the reason."""
    await dead.bury(ports(), dead.read(message, QUEUE))


@blueprint.function_name("backup_retire_old")
@blueprint.timer_trigger(arg_name="timer", schedule="0 17 * * * *")
async def on_retire(timer: func.TimerRequest) -> None:
    """Remove the data that restores replaced more than seven days ago."""
    del timer
    await nightly.retire_old(ports(), settings())


def decoded(body: bytes) -> RunRequest | Poke:
    """A message of the run queue, by its shape: only a request has a `kind`."""
    told = msgspec.json.decode(body)
    return msgspec.convert(told, type=RunRequest if "kind" in told else Poke)


@endpoint(
    blueprint,
    "GET",
    "/spaces/{space_id}/backups",
    name="backups_list",
    action="backup.read",
    summary="The backups of a space, newest first, failed ones too",
    response=api.BackupList,
    problems=("not-found",),
)
async def list_backups(request: Request) -> Reply:
    """All backups of one space."""
    return Reply(body=await api.listing(request.ports, request.params["space_id"]))


@endpoint(
    blueprint,
    "GET",
    "/spaces/{space_id}/backups/{backup_id}",
    name="backups_get",
    action="backup.read",
    summary="One backup of a space, or `latest`",
    response=api.BackupView,
    problems=("not-found",),
)
async def get_backup(request: Request) -> Reply:
    """One backup."""
    space_id, backup_id = request.params["space_id"], request.params["backup_id"]
    return Reply(body=await api.one(request.ports, space_id, backup_id))


@endpoint(
    blueprint,
    "POST",
    "/spaces/{space_id}/backups",
    name="backups_create",
    action="backup.run",
    summary="Back a space up now",
    body=api.BackupRequest,
    response=OperationView,
    status=202,
    idempotent=True,
    problems=("not-found", "operation-running", "transition-not-allowed"),
)
async def create_backup(request: Request) -> Reply:
    """Start a backup; the answer is its operation."""
    asked = cast("api.BackupRequest", request.body)
    asker = request.asker(asked.reason)
    view = await api.start_backup(request.ports, request.params["space_id"], asker)
    return _accepted(view)


@endpoint(
    blueprint,
    "POST",
    "/spaces/{space_id}/restores",
    name="restores_create",
    action="backup.restore",
    summary="Restore a space from a backup; dry_run answers 200 and the plan, and does nothing",
    body=api.RestoreRequest,
    response=OperationView,
    status=202,
    idempotent=True,
    problems=("not-found", "operation-running", "transition-not-allowed", "damaged"),
)
async def create_restore(request: Request) -> Reply:
    """Start a restore, or plan one."""
    asked = cast("api.RestoreRequest", request.body)
    space_id = request.params["space_id"]
    if asked.dry_run:
        places = Places(request.settings)
        plan = await api.planned(request.ports, places, space_id, asked.backup_id)
        return Reply(body=plan)
    asker = request.asker(asked.reason)
    view = await api.start_restore(request.ports, space_id, asked.backup_id, asker)
    return _accepted(view)


def _accepted(view: OperationView) -> Reply:
    where = f"/api/v1/operations/{view.operation_id}"
    headers = {"Operation-Location": where, "Retry-After": RETRY_AFTER_S}
    return Reply(body=view, status=202, headers=headers)
