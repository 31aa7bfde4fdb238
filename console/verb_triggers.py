"""The doors of the verbs: one endpoint each, all alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import azure.functions as func

from console.rehearsal import rehearse
from console.verbs import VERBS, Wanted, start
from spaces.http import Reply, Request, endpoint
from spaces.views import OperationView

if TYPE_CHECKING:
    from console.verbs import Verb
    from spaces.http import Handler

blueprint = func.Blueprint()

PROBLEMS = (
    "not-found",
    "operation-running",
    "transition-not-allowed",
    "needs-operator",
    "paused",
    "quarantined",
)


def _handler(verb: Verb) -> Handler:
    async def handle(request: Request) -> Reply:
        wanted = cast("Wanted", request.body)
        space_id, asker = request.params["space_id"], request.asker(wanted.reason)
        if wanted.dry_run:
            told = await rehearse(
                request.ports, request.settings, verb, space_id, wanted=wanted, asker=asker
            )
            return Reply(body=told)
        view = await start(request.ports, verb, space_id, wanted, asker)
        location = f"/api/v1/operations/{view.operation_id}"
        return Reply(body=view, status=202, headers={"Location": location})

    return handle


HANDLERS = {
    f"spaces_{verb.kind.value}": endpoint(
        blueprint,
        "POST",
        f"/spaces/{{space_id}}/{verb.word}",
        name=f"spaces_{verb.kind.value}",
        action=f"space.{verb.word}",
        summary=f"{verb.summary}; dry_run answers 200 and what would be done",
        body=verb.body,
        response=OperationView,
        status=202,
        idempotent=True,
        problems=PROBLEMS,
    )(_handler(verb))
    for verb in VERBS.values()
}
