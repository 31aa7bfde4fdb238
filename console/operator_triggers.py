"""The doors for operators: act on an operation; pause a space, a cluster, the fleet.

Each needs a reason and an Idempotency-Key. A dry run answers 200 and does nothing.
"""

from __future__ import annotations

from typing import cast

import azure.functions as func

from console import operating
from console.operating import PauseList, PauseView, Say, SayRetry
from spaces.http import Reply, Request, endpoint
from spaces.operator import Action
from spaces.views import OperationView

blueprint = func.Blueprint()

RETRY_AFTER_S = "2"
SUMMARIES = {
    Action.RETRY: "Do the step again at which an operation waits for an operator, or an earlier",
    Action.SKIP: "Go on without the step at which an operation waits for an operator",
    Action.ROLLBACK: "Undo what an operation did",
    Action.ABORT: "End an operation: its step ends, then it is undone",
    Action.ADOPT: "Take what stands as the step's effect, once a look shows it",
    Action.REPLAY: "Say again what an operation promised to send",
}


def _operation_door(action: Action) -> None:
    """Serve one action on operations."""

    @endpoint(
        blueprint,
        "POST",
        f"/operations/{{operation_id}}/{action}",
        name=f"operations_{action}",
        action=f"operation.{action}",
        summary=f"{SUMMARIES[action]}; dry_run answers 200 and what would come",
        body=SayRetry if action is Action.RETRY else Say,
        response=OperationView,
        status=202,
        idempotent=True,
        problems=("not-found", "transition-not-allowed"),
    )
    async def serve(request: Request) -> Reply:
        say = cast("Say", request.body)
        body = await operating.act(
            request.ports,
            request.params["operation_id"],
            action,
            say,
            actor=request.principal.subject,
            key=request.idempotency_key,
        )
        if say.dry_run:
            return Reply(body=body)
        where = f"/api/v1/operations/{request.params['operation_id']}"
        headers = {"Operation-Location": where, "Retry-After": RETRY_AFTER_S}
        return Reply(body=body, status=202, headers=headers)

    del serve


def _pause_door(path: str, what: str, *, on: bool) -> None:
    """Serve the pause, or its end, of a space, a cluster or the fleet."""
    word = "pause" if on else "unpause"

    @endpoint(
        blueprint,
        "POST",
        f"{path}/{word}",
        name=f"{what}_{word}",
        action=f"{what}.{word}",
        summary=f"{word.capitalize()} a {what}; dry_run says which operations that holds",
        body=Say,
        response=PauseView,
        idempotent=True,
        problems=("not-found", "transition-not-allowed"),
    )
    async def serve(request: Request) -> Reply:
        say, params = cast("Say", request.body), request.params
        given = {"actor": request.principal.subject, "key": request.idempotency_key}
        if "space_id" in params:
            body = await operating.pause_space(
                request.ports, params["space_id"], say, on=on, **given
            )
        else:
            body = await operating.pause_many(
                request.ports, params.get("cluster"), say, on=on, **given
            )
        return Reply(body=body)

    del serve


for _action in Action:
    _operation_door(_action)
for _on in (True, False):
    _pause_door("/spaces/{space_id}", "space", on=_on)
    _pause_door("/clusters/{cluster}", "cluster", on=_on)
    _pause_door("/fleet", "fleet", on=_on)


@endpoint(
    blueprint,
    "GET",
    "/pauses",
    name="pauses_list",
    action="pause.read",
    summary="Every pause that stands, with the operations that it holds",
    response=PauseList,
)
async def list_pauses(request: Request) -> Reply:
    """The pauses."""
    return Reply(body=await operating.standing(request.ports))
