"""What people and the billing system do to a world: orders, billing events, the API's verbs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from geo_router import router, signed, tables
from provisioning.orders import ids_of
from spaces.settings import settings
from tests.builders import a_billing_event
from tests.fakes import a_subscription

if TYPE_CHECKING:
    from tests.simworld.world import Asked, World

CALLER = "key:default"
BILLING = "billing-events"


def space_id(number: int = 1) -> str:
    """The id of the space of the order with this number."""
    return ids_of(CALLER, f"k-{number}")[1]


def order_id(number: int = 1) -> str:
    """The id of the order with this number."""
    return ids_of(CALLER, f"k-{number}")[0]


def subject(number: int = 1) -> str:
    """The subscription that pays the order with this number."""
    return f"sub-{number}"


def order(
    world: World,
    number: int = 1,
    *,
    name: str | None = None,
    plan: str = "standard",
    country: str = "DE",
) -> Asked:
    """Sign up, with a decision issued a moment ago."""
    request: dict[str, object] = {"country": country}
    now = world.clock.now()
    answer = router.settle(tables.load(), request, today=now.date().isoformat()).answer
    key = signed.SigningKey.from_setting(settings().decision_key)
    body: dict[str, Any] = {
        "name": name or f"acme{number}",
        "plan": plan,
        "customer_ref": f"c-{number}",
        "route": request,
        "token": signed.issue(answer, key=key, now=now, jti=f"jti-{number}"),
    }
    return world.post("/orders", body, key=f"k-{number}")


def bill(
    world: World,
    number: int = 1,
    *,
    sequence: int = 1,
    kind: str = "activated",
    copy: int = 0,
    names_order: bool = True,
    **snapshot: Any,
) -> None:
    """What the billing system says of a subscription; a copy has the same id in the event."""
    event = a_billing_event(
        sequence=sequence,
        kind=kind,
        event_id=f"e-{number}-{sequence}",
        subject=subject(number),
        order_id=order_id(number) if names_order else None,
        **snapshot,
    )
    if "." in kind:
        event = json.dumps({**json.loads(event), "type": f"billing.{kind}"})
    world.put(BILLING, event, f"m-{number}-{sequence}-{copy}")
    newest = world.rules.newest
    if sequence > newest.get(subject(number), -1):
        newest[subject(number)] = sequence
        told = {"order_id": order_id(number), "type": json.loads(event)["type"], **snapshot}
        world.estate.billing.tell(a_subscription(subject(number), sequence, **told))


def back_up(world: World, number: int = 1, *, key: str = "b-1") -> Asked:
    """Back the space up now."""
    return world.post(f"/spaces/{space_id(number)}/backups", None, key=key)


def restore(world: World, number: int = 1, *, key: str = "r-1") -> Asked:
    """Restore the newest backup."""
    return world.post(f"/spaces/{space_id(number)}/restores", {"backup_id": "latest"}, key=key)


def verb(world: World, word: str, number: int = 1, *, key: str = "v-1", **more: Any) -> Asked:
    """One of the operators' words for a space: `suspend`, `resize` and the others."""
    body: dict[str, Any] = {"reason": "because", **more}
    return world.post(f"/spaces/{space_id(number)}/{word}", body, key=f"{word}-{number}-{key}")


def act(world: World, action: str, number: int = 1, *, key: str = "a-1") -> Asked | None:
    """What an operator does about the operation of a space that needs one, or that runs."""
    space = world.rules.spaces.get(space_id(number))
    if space is None or space.op is None:
        return None
    path = f"/operations/{space.op.op_id}/{action}"
    return world.post(path, {"reason": "because"}, key=f"{action}-{number}-{key}")


def pause(world: World, what: str, *, key: str, again: bool = False) -> Asked:
    """Hold a space, a cluster or the fleet (`/fleet`), or let it go on."""
    word = "unpause" if again else "pause"
    return world.post(f"{what}/{word}", {"reason": "because"}, key=f"{word}-{what}-{key}")


def fill(world: World, number: int = 1) -> None:
    """What the customer does meanwhile: rows and files of its own."""
    space = world.rules.spaces[space_id(number)]
    assert space.resources is not None
    host = space.resources.database_host
    rows = world.estate.data.rows(host, space.database)
    rows.setdefault("devices", []).append(f"{len(rows.get('devices', []))} pump")
    account = world.estate.accounts.spaces[space.resources.storage_account]
    account.put(space.container, f"d/{len(rows['devices'])}.pdf", b"a contract")
