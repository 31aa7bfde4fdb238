"""What operators do to a space by a word: which operation it is, and which wish stands behind it.

A verb that says what the space is to be (suspended, active, cancelled) also writes an override, or
the planner would lead the space straight back; the override has a reason, an author and perhaps an
end. Source: control-plane.md 3.3 and amendment 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from spaces import operations
from spaces.configuration import checked_app_settings
from spaces.desire import by_billing, overridden
from spaces.errors import (
    ConflictError,
    FieldError,
    InvalidError,
    LostRaceError,
    RefusedError,
    UnknownError,
)
from spaces.messages import Reason
from spaces.model import OpKind, Override, Tier, Wish
from spaces.registry import Registry
from spaces.saga import asked
from spaces.saga.plan_next import bring

if TYPE_CHECKING:
    from spaces.model import Facts, Space
    from spaces.ports import Ports
    from spaces.registry import Loaded
    from spaces.saga.asked import Asker
    from spaces.views import OperationView

# How long a space is kept active although billing wants otherwise, where nobody says how long.
HELD = timedelta(days=14)


class Reasoned(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why; `dry_run` answers what would be done, and does nothing."""

    reason: Reason
    dry_run: bool = False


class Timed(Reasoned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, and when billing's word counts again (null: when the opposite is asked)."""

    until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None


class Confirmed(Reasoned, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why, and the space's name once more: what is done cannot be taken back."""

    confirm: str


class Resized(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The plan that the space is to have."""

    plan: Literal["starter", "standard", "premium"]
    reason: Reason | None = None
    dry_run: bool = False


class Configured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the application by name; an empty value puts the default back."""

    settings: dict[str, str]
    reason: Reason | None = None
    dry_run: bool = False


type Wanted = Reasoned | Timed | Confirmed | Resized | Configured


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """One word of the API: its operation, the body it takes, and what the reference says of it."""

    word: str
    kind: OpKind
    body: type[Wanted]
    summary: str


VERBS: dict[str, Verb] = {
    verb.word: verb
    for verb in (
        Verb(
            word="suspend",
            kind=OpKind.SUSPEND,
            body=Timed,
            summary="Stop machines and database of a space; its data stays",
        ),
        Verb(
            word="resume",
            kind=OpKind.RESUME,
            body=Timed,
            summary="Start a suspended space, or a cancelled one within its grace",
        ),
        Verb(
            word="cancel",
            kind=OpKind.CANCEL,
            body=Reasoned,
            summary="Stop a space for good after a final backup; it can come back within its grace",
        ),
        Verb(
            word="delete",
            kind=OpKind.DELETE,
            body=Confirmed,
            summary="Remove all resources of a cancelled space after its grace; backups stay",
        ),
        Verb(
            word="erase",
            kind=OpKind.ERASE,
            body=Confirmed,
            summary="Destroy keys and backups of a deleted space after its retention",
        ),
        Verb(
            word="quarantine",
            kind=OpKind.QUARANTINE,
            body=Reasoned,
            summary="Close a space's address and let nothing else happen to it",
        ),
        Verb(
            word="release",
            kind=OpKind.RELEASE,
            body=Reasoned,
            summary="End a space's quarantine",
        ),
        Verb(
            word="rotate-secrets",
            kind=OpKind.ROTATE_SECRETS,
            body=Reasoned,
            summary="Give a space new secrets; the old ones fail afterwards",
        ),
        Verb(
            word="resize",
            kind=OpKind.RESIZE,
            body=Resized,
            summary="Give a space the machines and limits of another plan",
        ),
        Verb(
            word="configure",
            kind=OpKind.CONFIGURE,
            body=Configured,
            summary="Change settings of a space's application",
        ),
    )
}


# What the planner also starts by itself when its day has come.
_ENDS = frozenset({OpKind.DELETE, OpKind.ERASE})


async def start(
    ports: Ports, verb: Verb, space_name: str, wanted: Wanted, asker: Asker
) -> OperationView:
    """Start the verb's operation; a cancellation stops an opening that is under way.

    Raises `NotFoundError`, `InvalidError` (a wrong name to confirm, unknown settings) and
    `RefusedError` (not from this status, something runs, paused, in quarantine).
    """
    loaded = await Registry(ports.tables).find(space_name)
    now = ports.clock.now()
    check(loaded.space, verb, wanted, now)
    if verb.kind is OpKind.CANCEL and _is_opening(loaded.space):
        return await _stop_opening(ports, loaded, wanted, asker)
    under_way = loaded.space.op
    if verb.kind in _ENDS and under_way is not None and under_way.kind is verb.kind:
        return await operations.show(ports, under_way.op_id)  # the planner was first

    def change(space: Space) -> Space:
        return wished(space, verb, wanted, asker, now)

    def params(space: Space) -> Facts:
        return params_of(space, verb, wanted, asker)

    return await asked.start(
        ports, verb.kind, loaded.space.space_id, asker, params=params, change=change
    )


def check(space: Space, verb: Verb, wanted: Wanted, now: datetime) -> None:
    """Return when the request fits the space; raise `InvalidError` where it does not."""
    if isinstance(wanted, Confirmed) and wanted.confirm not in {space.name, space.space_id}:
        raise InvalidError(
            f"the name to confirm is not that of this space: {wanted.confirm[:64]!r}",
            where=f"space {space.space_id} · {space.name}",
            remedy=f"A {verb.kind} cannot be taken back. If you mean it: --confirm {space.name}",
            errors=(
                FieldError(
                    pointer="/confirm", code="mismatch", message="must be the space's name"
                ),
            ),
        )
    if isinstance(wanted, Timed) and wanted.until is not None and wanted.until <= now:
        raise InvalidError(
            f"until {wanted.until.isoformat()} is over",
            remedy="Give a moment to come, or none.",
            errors=(FieldError(pointer="/until", code="past", message="must be to come"),),
        )


def params_of(space: Space, verb: Verb, wanted: Wanted, asker: Asker) -> Facts:
    """What the operation starts with; refuses a resize to the plan that is there already."""
    if isinstance(wanted, Resized):
        if Tier(wanted.plan) is space.tier:
            raise RefusedError(
                f"the space has plan {wanted.plan} already",
                where=f"space {space.space_id} · {space.name}",
                members={"current_status": space.status},
            )
        return {"plan": wanted.plan}
    if isinstance(wanted, Configured):
        return {"settings": checked_app_settings(wanted.settings)}
    if verb.kind is OpKind.QUARANTINE:
        return {"reason": asker.reason or "", "actor": asker.caller}
    return {}


def wished(space: Space, verb: Verb, wanted: Wanted, asker: Asker, now: datetime) -> Space:
    """The space under the override that the verb means; unchanged where it means none. Pure."""
    until = wanted.until if isinstance(wanted, Timed) else None
    wish = _WISHES.get(verb.kind)
    if wish is None:
        return space
    if wish is Wish.ACTIVE:
        if by_billing(space.billing, now) in {Wish.ACTIVE, None}:
            return overridden(space, None, now)
        until = until or now + HELD
    override = Override(
        wish=wish, reason=asker.reason or "", actor=asker.caller, at=now, until=until
    )
    return overridden(space, override, now)


_WISHES = {
    OpKind.SUSPEND: Wish.SUSPENDED,
    OpKind.RESUME: Wish.ACTIVE,
    OpKind.CANCEL: Wish.CANCELLED,
}


def _is_opening(space: Space) -> bool:
    return space.op is not None and space.op.kind is OpKind.PROVISION


async def _stop_opening(
    ports: Ports, loaded: Loaded, wanted: Wanted, asker: Asker
) -> OperationView:
    """Cancel before activation: the running step ends, what was built is removed."""
    registry, cause = Registry(ports.tables), asker.cause(OpKind.CANCEL, {})
    for _ in range(asked.RACES):
        space = loaded.space
        if space.op is None:
            break  # it has ended meanwhile
        op_id = space.op.op_id
        if await registry.has_seen(space.space_id, cause.source, cause.cause_id):
            return await operations.show(ports, op_id)
        after = wished(space, VERBS["cancel"], wanted, asker, ports.clock.now())
        try:
            await bring(ports, loaded, after, cause, act="space.cancel_asked")
        except (LostRaceError, ConflictError, UnknownError):
            loaded = await registry.require(space.space_id)
            continue
        return await operations.show(ports, op_id)
    raise UnknownError(
        "the space changes faster than its opening can be stopped",
        where=f"space {loaded.space.space_id}",
        remedy="Try again.",
    )
