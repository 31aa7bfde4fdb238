"""What billing told of a person, taken out of what is kept for the books.

Ids, sequences, times and amounts stay: they name nobody. Used by the erasure of a space, and for
every event of its subscription that comes later.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from spaces.errors import DamagedError, LostRaceError, UnknownError
from spaces.idempotency import digest
from spaces.model import BillingState
from spaces.ports import Replace

if TYPE_CHECKING:
    from spaces.ports import Scalar, Tables

SUBSCRIPTIONS = "subscriptions"
ROW = "state"
# What stands in the place of what was personal; what reads the row still can.
NOBODY = "erased"
RACES = 5


def nameless(state: BillingState) -> BillingState:
    """The state without the customer's name and country. Pure."""
    return replace(state, customer_ref=NOBODY, country="")


async def forget_subscription(tables: Tables, subject: str) -> None:
    """Take the person out of a subscription's row; repeatable.

    Raises `UnknownError` when the row changes faster than it can be written.
    """
    for _ in range(RACES):
        row = await tables.get(SUBSCRIPTIONS, digest(subject), ROW)
        if row is None or "state" not in row.values:
            return
        try:
            state = msgspec.json.decode(str(row.values["state"]), type=BillingState)
        except msgspec.MsgspecError as error:
            raise DamagedError(f"the row of a subscription cannot be read: {error}") from error
        if nameless(state) == state:
            return
        text = msgspec.json.encode(nameless(state)).decode()
        values: dict[str, Scalar] = {**row.values, "state": text}
        try:
            await tables.commit(
                SUBSCRIPTIONS, digest(subject), [Replace(ROW, values, row.etag)]
            )
        except (LostRaceError, UnknownError):
            continue
        return
    raise UnknownError("the subscription changes faster than it can be forgotten")
