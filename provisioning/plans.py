"""What this room carries: the operations of a space's machines, address and contract."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioning.steps import (
    activate,
    configure,
    data,
    deploy,
    flags,
    publish,
    reserve,
    resize,
    rotate,
    route,
    smoke,
    start,
)
from spaces import power
from spaces.model import OpKind
from spaces.saga.outline import OUTLINES, PROVISIONING, bind

if TYPE_CHECKING:
    from spaces.saga.outcomes import Plans

QUEUE = PROVISIONING

_BOUND = (
    bind(
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
    ),
    bind(
        OUTLINES[OpKind.RESIZE],
        as_told=power.as_told,
        acts={"deploy": resize.deploy, "smoke": smoke.act, "settle": resize.settle},
        undos={"deploy": resize.undeploy},
    ),
    bind(
        OUTLINES[OpKind.CONFIGURE],
        as_told=power.as_told,
        acts={
            "tell": configure.tell,
            "restart": configure.restart,
            "smoke": smoke.act,
            "settle": configure.settle,
        },
        undos={"tell": configure.back_for_good, "restart": configure.back},
    ),
    bind(
        OUTLINES[OpKind.ROTATE_SECRETS],
        as_told=power.as_told,
        acts={
            "prepare": rotate.prepare,
            "tell": rotate.tell,
            "restart": rotate.restart,
            "smoke": smoke.act,
            "retire": rotate.retire,
            "settle": rotate.settle,
        },
        undos={
            "prepare": rotate.unprepare,
            "tell": rotate.back_for_good,
            "restart": rotate.back,
        },
    ),
    bind(
        OUTLINES[OpKind.SUSPEND],
        as_told=power.as_told,
        acts={
            "close": power.close,
            "stop": power.stop_machines,
            "stop_database": power.stop_database,
            "settle": flags.suspended,
        },
        undos={
            "close": power.address_as_it_was,
            "stop": power.machines_as_they_were,
            "stop_database": power.database_as_it_was,
        },
    ),
    bind(
        OUTLINES[OpKind.RESUME],
        as_told=power.as_told,
        acts={
            "start_database": power.start_database,
            "start": power.start_machines,
            "open": power.open_again,
            "smoke": smoke.act,
            "settle": flags.resumed,
        },
        undos={
            "start_database": power.database_as_it_was,
            "start": power.machines_as_they_were,
            "open": power.address_as_it_was,
        },
    ),
    bind(
        OUTLINES[OpKind.QUARANTINE],
        as_told=power.as_told,
        acts={"close": power.close, "settle": flags.quarantined},
        undos={"close": power.address_as_it_was},
    ),
    bind(
        OUTLINES[OpKind.RELEASE],
        as_told=power.as_told,
        acts={"open": power.open_again, "settle": flags.released},
        undos={"open": power.address_as_it_was},
    ),
)

PLANS: Plans = {plan.kind: plan for plan in _BOUND}
PROVISION = PLANS[OpKind.PROVISION]
