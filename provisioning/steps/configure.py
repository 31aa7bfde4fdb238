"""Tell a space's application other settings: a new version in its vault, then a rolling restart.

Parameters: `settings`, the text of `spaces.configuration.checked_app_settings`. A suspended space
is only told: its machines read the newest version when they start. The row keeps the old settings
until the last step; the way back tells the row's settings under a revision of its own, because a
machine reads its settings anew only when the revision changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces import configuration, stack
from spaces.model import Status, replace
from spaces.saga.outcomes import Done, Outcome
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work


async def tell(ports: Ports, work: Work) -> Outcome:
    """Done when the new settings are the current version in the space's vault."""
    new = _wanted(work.space, work)
    await configuration.tell(ports, settings(), new)
    return Done(detail=f"settings revision {new.config_revision}")


async def restart(ports: Ports, work: Work) -> Outcome:
    """Done when the machines run the new revision, restarted one after the other."""
    new = _wanted(work.space, work)
    return await stack.stands(ports, settings(), work, new, stack.REVISION)


async def back(ports: Ports, work: Work) -> Outcome:
    """Done when the row's settings are told and running again; the row itself stays as it is."""
    old = told_again(work.space)
    await configuration.tell(ports, settings(), old)
    if work.space.status is not Status.ACTIVE:
        return Done(detail=f"settings revision {old.config_revision}")
    return await stack.stands(ports, settings(), work, old, stack.REVISION)


async def back_for_good(ports: Ports, work: Work) -> Outcome:
    """The same, and the row has the revision under which the old settings now run."""
    outcome = await back(ports, work)
    return replace(outcome, change=told_again) if isinstance(outcome, Done) else outcome


async def settle(ports: Ports, work: Work) -> Outcome:
    """The row has the new settings."""
    del ports
    return Done(
        detail=f"revision {work.space.config_revision + 1}",
        change=lambda space: _wanted(space, work),
    )


def told_again(space: Space) -> Space:
    """The space as it was, under the revision after the one that is taken back."""
    return replace(space, config_revision=space.config_revision + 2)


def _wanted(space: Space, work: Work) -> Space:
    changes = str(work.op.params["settings"])
    return replace(
        space,
        app_settings=configuration.merged_app_settings(space, changes),
        config_revision=space.config_revision + 1,
    )
