"""Every Azure name of a space, computed from its id: never remembered, never asked for.

An incarnation is in each name, so that a soft-deleted one is never met again
(control-plane.md amendment 1).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from spaces.errors import FieldError, InvalidError

if TYPE_CHECKING:
    from spaces.model import Space

SPACE_NAME = re.compile(r"[a-z][a-z0-9-]{1,29}")
BACKUP_KEY = "backup-kek"
# Owns the database and all that is in it, whoever is logged in.
OWNER_ROLE = "kpax_app"
SETTINGS_SECRET = "settings"  # noqa: S105 - the name of a secret, not one


def check_name(name: str) -> str:
    """The name, when it can be a space's; raise `InvalidError` otherwise."""
    if SPACE_NAME.fullmatch(name) is None:
        message = "2 to 30 characters: a lower-case letter, then letters, digits or hyphens"
        raise InvalidError(
            "the name cannot be a space's name",
            remedy=f"Use {message}.",
            errors=(FieldError(pointer="/name", code="malformed-name", message=message),),
        )
    return name


def stack(space: Space) -> str:
    """The deployment stack of this incarnation."""
    return f"{space.space_id}-{space.incarnation}"


def shared_group(cluster: str) -> str:
    """The resource group of what a cluster's spaces share."""
    return f"rg-kx-shared-{cluster}"


def edge_profile(cluster: str) -> str:
    """The Front Door profile of a cluster."""
    return f"fd-kx-{cluster}"


def edge_endpoint(cluster: str) -> str:
    """The endpoint of that profile."""
    return f"ep-kx-{cluster}"


def admin_secret(space: Space) -> str:
    """The database administrator's password, in the cluster's vault."""
    return f"db-admin-{stack(space)}"


def role_secret(space: Space) -> str:
    """The password of the login in force, in the cluster's vault; each rotation has its own."""
    base = f"db-app-{stack(space)}"
    return base if space.secret_revision == 1 else f"{base}-r{space.secret_revision}"


def secrets_of(space: Space) -> list[str]:
    """Every secret of this incarnation that the cluster's vault may hold, of any rotation."""
    last = space.secret_revision + 1  # a rotation that was not finished has made its secret
    rotations = [role_secret(replace(space, secret_revision=n)) for n in range(1, last + 1)]
    return [admin_secret(space), *rotations]


def login_role(space: Space) -> str:
    """Who the application logs in as: at first the owner, then two logins in turn that act as it."""
    if space.secret_revision == 1:
        return OWNER_ROLE
    return f"{OWNER_ROLE}_{'a' if space.secret_revision % 2 else 'b'}"


def storage_key(space: Space) -> int:
    """Which of the two keys of its storage account is in force, where keys are used."""
    return 1 if space.secret_revision % 2 else 2


def database_server(space: Space) -> str:
    """The PostgreSQL server of this incarnation, as `infra/space.json` names it."""
    return f"pg-{stack(space)}"


def vault(space: Space) -> str:
    """The key vault of this incarnation, as `infra/space.json` names it."""
    return f"kv-{stack(space)}"


def restored_database(restore_id: int) -> str:
    """The database that the restore with this number builds beside the one in force."""
    return f"app_r{restore_id}"


def restored_container(restore_id: int) -> str:
    """The container that the restore with this number builds beside the one in force."""
    return f"attachments-r{restore_id}"


def backup_container(space_id: str) -> str:
    """The container of a space's backups, in the backup account of its cluster."""
    return space_id
