"""Give a space new secrets without an interruption; the old ones open nothing afterwards.

Two logins take turns, each acting as the owner of the database, and two keys of the storage
account. The machines are told the new ones and restarted one by one; only then are the old ones
retired, and that the old password is refused is tried on the server. Until then the way back leads
to the row's secrets; after it, to the row's login with a password that is made anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioning.steps import configure
from spaces import configuration, names, stack
from spaces.configuration import APP_ROLE, admin_server, role_password
from spaces.errors import ErrorKind
from spaces.model import replace
from spaces.saga.outcomes import Done, Outcome, Retry
from spaces.settings import settings

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work


async def prepare(ports: Ports, work: Work) -> Outcome:
    """Done when the new login is there beside the old one."""
    new = _wanted(work.space)
    await _login(ports, new)
    return Done(detail=f"login {names.login_role(new)} is ready")


async def unprepare(ports: Ports, work: Work) -> Outcome:
    """Nobody logs in as the new one any more."""
    server = await admin_server(ports, settings(), work.space)
    login = names.login_role(_wanted(work.space))
    await ports.databases.retire_login(server, login)
    return Done(detail=f"login {login} is retired")


async def tell(ports: Ports, work: Work) -> Outcome:
    """Done when the new login and key are the current version of the space's settings."""
    new = _wanted(work.space)
    await configuration.tell(ports, settings(), new)
    return Done(detail=f"settings revision {new.config_revision}")


async def restart(ports: Ports, work: Work) -> Outcome:
    """Done when the machines use them, restarted one after the other."""
    return await stack.stands(ports, settings(), work, _wanted(work.space), stack.REVISION)


async def back(ports: Ports, work: Work) -> Outcome:
    """Done when the machines use the row's secrets again, whatever was retired meanwhile."""
    await _login(ports, work.space)
    return await configure.back(ports, work)


async def back_for_good(ports: Ports, work: Work) -> Outcome:
    """The same, and the row has the revision under which the old secrets now run."""
    await _login(ports, work.space)
    return await configure.back_for_good(ports, work)


async def retire(ports: Ports, work: Work) -> Outcome:
    """Done when the old login, the old key and all earlier settings open nothing any more.

    The old password is deleted last: as long as it is there, the proof can be made again.
    """
    space, config = work.space, settings()
    vault, secret = config.cluster_vaults[space.cluster], names.role_secret(space)
    server, login = await admin_server(ports, config, space), names.login_role(space)
    await ports.databases.retire_login(server, login)
    old = await ports.secrets.get(vault, secret)
    if old and await ports.databases.accepts(server, space.database, login, old):
        return Retry(
            kind=ErrorKind.TRANSIENT,
            reason=f"the old password of {login} is still accepted by {server.address}",
        )
    if space.resources is not None:
        await ports.accounts.renew_key(
            space.resources.resource_group,
            space.resources.storage_account,
            key=names.storage_key(space),
        )
        await ports.secrets.disable_old(space.resources.vault_uri, names.SETTINGS_SECRET)
    await ports.secrets.delete(vault, secret)
    return Done(detail=f"the old password of {login} is refused")


async def settle(ports: Ports, work: Work) -> Outcome:
    """The row names the new secrets."""
    del ports
    return Done(detail=f"rotation {work.space.secret_revision + 1}", change=_wanted)


async def _login(ports: Ports, space: Space) -> None:
    """The login that `space` names, with its password, acting as the owner."""
    config = settings()
    await ports.databases.ensure_login(
        await admin_server(ports, config, space),
        names.login_role(space),
        await role_password(ports, config, space),
        acts_as=APP_ROLE,
    )


def _wanted(space: Space) -> Space:
    return replace(
        space,
        secret_revision=space.secret_revision + 1,
        config_revision=space.config_revision + 1,
    )
