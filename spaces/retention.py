"""How long what is left of a space is kept after each end. Pure.

The order: cancelled, then days of grace in which it can come back; deleted, then its backups are
retained; erased, and then its name may be another's. Source: control-plane.md 3.3 and 4.3, 4 and 7.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.settings import Settings

# Where billing says nothing else.
GRACE_DAYS = 30
# Before a name may be given to somebody else: links and bookmarks lead to the old owner's data.
NAME_HELD = timedelta(days=90)
# A final backup has no date that could come before its erasure: a legal hold may last for years.
FINAL_KEPT = timedelta(days=3650)


def retained(settings: Settings) -> timedelta:
    """How long the backups of a deleted space are kept before they are erased."""
    return timedelta(days=settings.retention_days)


def grace(space: Space) -> timedelta:
    """How long a cancelled space can come back."""
    days = GRACE_DAYS if space.billing is None else space.billing.grace_days
    return timedelta(days=days)
