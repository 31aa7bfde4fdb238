"""The plan of the operation that opens a space: its steps in order, their budgets and undos.

Budgets in seconds: each is longer than a lost message takes to be found and said again, so that
one lost message alone fails no step. Order of the steps: control-plane.md 3.4.
"""

from __future__ import annotations

from provisioning.steps import activate, data, deploy, publish, reserve, route, smoke, start
from spaces.model import OpKind
from spaces.saga.outcomes import Plan, Step

QUEUE = "provisioning-steps"

PROVISION = Plan(
    kind=OpKind.PROVISION,
    queue=QUEUE,
    steps=(
        Step(name="route", act=route.act, undo=route.undo, budget_s=1800),
        Step(name="reserve", act=reserve.act, undo=reserve.undo, budget_s=300),
        Step(name="deploy", act=deploy.act, undo=deploy.undo, budget_s=1800),
        Step(name="data", act=data.act, budget_s=900),
        Step(name="start", act=start.act, budget_s=300),
        Step(name="publish", act=publish.act, budget_s=300),
        Step(name="smoke", act=smoke.act, budget_s=300),
        Step(name="activate", act=activate.act, budget_s=300),
    ),
    started="space.provisioning",
    failed="space.provisioning_failed",
)

PLANS = {OpKind.PROVISION: PROVISION}
