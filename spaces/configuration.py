"""What a space's stack is deployed with, and what its application is told.

Both the provisioning and a restore need the same two texts: the parameters of `infra/space.json`,
and the JSON of the vault's secret `settings`, which an instance reads when it starts.
"""

from __future__ import annotations

import functools
import json
import re
from typing import TYPE_CHECKING, cast

from spaces import names
from spaces.errors import FieldError, InvalidError
from spaces.model import Resources, Status
from spaces.ports import Server, StackRequest
from spaces.settings import host_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from spaces.model import Space
    from spaces.ports import Blobs, Ports
    from spaces.settings import Settings

ADMIN_USER = "kpax_admin"
APP_ROLE = names.OWNER_ROLE

# What an application may be told, with the default and the form of each.
APP_SETTINGS: dict[str, tuple[str | None, re.Pattern[str], str]] = {
    "title": (None, re.compile(r"[^\x00-\x1f\x7f<>]{1,60}"), "1 to 60 characters, no < or >"),
    "locale": ("en", re.compile(r"[a-z]{2,3}(-[A-Z]{2})?"), "a language as in `de` or `pt-BR`"),
}


def stack_request(space: Space, settings: Settings, *, admin_password: str) -> StackRequest:
    """The stack PUT of a space as it now is; the same space gives the same request."""
    tags = {
        "kpax-space": space.space_id,
        "kpax-incarnation": str(space.incarnation),
        "kpax-cluster": space.cluster,
        "kpax-release": space.release,
    }
    parameters: dict[str, object] = {
        "spaceId": space.space_id,
        "incarnation": space.incarnation,
        "name": space.name,
        "cluster": space.cluster,
        "location": space.azure_region,
        "plan": space.tier.value,
        "hostName": host_name(space.name, space.cluster, settings.space_domain),
        "release": space.release,
        "configRevision": str(space.config_revision),
        "routeEnabled": is_open(space),
        "sharedResourceGroup": names.shared_group(space.cluster),
        "frontDoorProfile": names.edge_profile(space.cluster),
        "frontDoorEndpoint": names.edge_endpoint(space.cluster),
        "databaseAdminUser": ADMIN_USER,
        "databaseAdminPassword": admin_password,
        "controlPlanePrincipalId": settings.control_principal,
        "allowSharedKey": settings.allow_shared_key,
        "tags": tags,
    }
    return StackRequest(
        name=names.stack(space),
        location=space.azure_region,
        template=template(settings.template),
        parameters=parameters,
        tags=tags,
    )


def is_open(space: Space) -> bool:
    """Whether its address leads to its machines: not while it is suspended or in quarantine."""
    return space.status in {Status.REQUESTED, Status.ACTIVE} and space.quarantined is None


@functools.cache
def template(path: Path) -> Mapping[str, object]:
    """The ARM template of a space, read once."""
    return json.loads(path.read_text())


def resources_of(outputs: Mapping[str, object]) -> Resources:
    """The outputs of `infra/space.json` as a value; a missing one is a `KeyError`."""
    return Resources(
        resource_group=str(outputs["resourceGroup"]),
        database_host=str(outputs["databaseHost"]),
        database_admin_user=str(outputs["databaseAdminUser"]),
        blob_endpoint=str(outputs["blobEndpoint"]),
        storage_account=str(outputs["storageAccount"]),
        vault_uri=str(outputs["vaultUri"]),
        scale_set=str(outputs["scaleSet"]),
    )


async def admin_server(ports: Ports, settings: Settings, space: Space) -> Server:
    """The space's database server, with the password out of the cluster's vault.

    The password is created before the PUT that uses it, and never a second time.
    """
    if space.resources is None:
        raise ValueError(f"space {space.space_id} has no resources yet")
    password = await admin_password(ports, settings, space)
    return Server(
        address=space.resources.database_host,
        user=space.resources.database_admin_user,
        password=password,
    )


async def admin_password(ports: Ports, settings: Settings, space: Space) -> str:
    """The administrator's password in force, made when there is none. Repeatable."""
    vault = settings.cluster_vaults[space.cluster]
    return await ports.secrets.create(vault, names.admin_secret(space), ports.ids.secret())


async def role_password(ports: Ports, settings: Settings, space: Space) -> str:
    """The password of the application's login in force, made when there is none. Repeatable."""
    vault = settings.cluster_vaults[space.cluster]
    return await ports.secrets.create(vault, names.role_secret(space), ports.ids.secret())


def checked_app_settings(told: Mapping[str, str]) -> str:
    """The settings that `configure` is to make, as its parameter `settings`.

    An empty value puts the default back. Raises `InvalidError` with every field that is wrong.
    """
    wrong: list[FieldError] = []
    for name, value in told.items():
        if name not in APP_SETTINGS:
            message = f"one of {', '.join(APP_SETTINGS)}"
            wrong.append(
                FieldError(pointer=f"/settings/{name}", code="unknown", message=message)
            )
        elif value and APP_SETTINGS[name][1].fullmatch(value) is None:
            wrong.append(
                FieldError(
                    pointer=f"/settings/{name}", code="malformed", message=APP_SETTINGS[name][2]
                )
            )
    if wrong or not told:
        raise InvalidError(
            "these settings cannot be made" if wrong else "no setting is named",
            remedy=f"Settings are {', '.join(APP_SETTINGS)}: kpax space configure --set K=V.",
            errors=tuple(wrong),
        )
    return json.dumps(dict(told), sort_keys=True)


def merged_app_settings(space: Space, changes: str) -> tuple[tuple[str, str], ...]:
    """The space's settings with those of `changes` (see `checked_app_settings`) over them. Pure."""
    both = {**dict(space.app_settings), **cast("dict[str, str]", json.loads(changes))}
    return tuple(sorted((name, value) for name, value in both.items() if value))


async def space_blobs(ports: Ports, space: Space) -> Blobs:
    """The storage account of a space, opened by the key in force."""
    resources = space.resources
    if resources is None:
        raise ValueError(f"space {space.space_id} has no resources yet")
    return await ports.accounts.of_space(
        resources.resource_group,
        resources.storage_account,
        resources.blob_endpoint,
        key=names.storage_key(space),
    )


async def tell(ports: Ports, settings: Settings, space: Space) -> None:
    """Make what `space` says the current version of the secret `settings`; nothing when it is."""
    if space.resources is None:
        raise ValueError(f"space {space.space_id} has no resources")
    vault = space.resources.vault_uri
    text = await application_settings(ports, settings, space)
    if await ports.secrets.get(vault, names.SETTINGS_SECRET) != text:
        await ports.secrets.put_version(vault, names.SETTINGS_SECRET, text)


async def application_settings(ports: Ports, settings: Settings, space: Space) -> str:
    """The JSON of the secret `settings`: what the application of this space is told."""
    resources = space.resources
    if resources is None:
        raise ValueError(f"space {space.space_id} has no resources yet")
    storage = await ports.accounts.connection_of_space(
        resources.resource_group,
        resources.storage_account,
        resources.blob_endpoint,
        key=names.storage_key(space),
    )
    told = {name: default for name, (default, _, _) in APP_SETTINGS.items() if default}
    host, _, port = resources.database_host.partition(":")
    document = {
        "version": 1,
        "revision": space.config_revision,
        "space_id": space.space_id,
        "name": space.name,
        "release": space.release,
        "database": {
            "host": host,
            "port": int(port or 5432),
            "name": space.database,
            "user": names.login_role(space),
            "password": await role_password(ports, settings, space),
        },
        "storage": {**storage, "container": space.container},
        "app": {"title": space.name, **told, **dict(space.app_settings)},
    }
    return json.dumps(document, sort_keys=True)
