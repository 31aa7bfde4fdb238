"""Give the space its database, its container and its settings, all create-only.

The instances of the stack wait for the secret `settings` in their vault: writing it is what lets
them start.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from spaces import names
from spaces.configuration import (
    APP_ROLE,
    admin_server,
    application_settings,
    role_password,
    space_blobs,
)
from spaces.errors import DeniedError, NotFoundError
from spaces.saga.outcomes import Done, Outcome, Retry
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work
    from spaces.settings import Settings


async def act(ports: Ports, work: Work) -> Outcome:
    """Done when database, container and settings are there; repeatable from any line.

    Rights and names of what was made a moment ago take minutes to be known everywhere: for as long
    as the budget lasts, "denied" and "not found" mean "not yet".
    """
    try:
        return await _make(ports, work)
    except (DeniedError, NotFoundError) as error:
        return Retry(kind=error.kind, reason=str(error))


async def _make(ports: Ports, work: Work) -> Outcome:
    space, config = work.space, settings()
    resources = space.resources
    if resources is None:
        raise ValueError(f"space {space.space_id} came to data without resources")
    await asyncio.gather(_database(ports, config, space), _container(ports, space))
    document = await application_settings(ports, config, space)
    await ports.secrets.create(resources.vault_uri, names.SETTINGS_SECRET, document)
    return Done(detail=f"database {space.database}, container {space.container}")


async def _database(ports: Ports, config: Settings, space: Space) -> None:
    server = await admin_server(ports, config, space)
    await ports.databases.ensure_role(
        server, APP_ROLE, await role_password(ports, config, space)
    )
    await ports.databases.ensure_database(server, space.database, owner=APP_ROLE)


async def _container(ports: Ports, space: Space) -> None:
    blobs = await space_blobs(ports, space)
    await blobs.ensure_container(space.container)
