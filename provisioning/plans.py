"""What this room carries: the operations of a space's machines, address and contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioning.steps import activate, data, deploy, publish, reserve, route, smoke, start
from spaces.model import OpKind
from spaces.saga.outline import OUTLINES, PROVISIONING, bind

if TYPE_CHECKING:
    from spaces.saga.outcomes import Plans

QUEUE = PROVISIONING

PROVISION = bind(
    OUTLINES[OpKind.PROVISION],
    acts={
        "route": route.act,
        "reserve": reserve.act,
        "deploy": deploy.act,
        "data": data.act,
        "start": start.act,
        "publish": publish.act,
        "smoke": smoke.act,
        "activate": activate.act,
    },
    undos={"route": route.undo, "reserve": reserve.undo, "deploy": deploy.undo},
)

PLANS: Plans = {OpKind.PROVISION: PROVISION}
