"""What a space's stack is deployed with, and what its application is told.

Both the provisioning and a restore need the same two texts: the parameters of `infra/space.json`,
and the JSON of the vault's secret `settings`, which an instance reads when it starts.
"""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from spaces import names
from spaces.model import Resources
from spaces.ports import Server, StackRequest
from spaces.settings import host_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.settings import Settings

ADMIN_USER = "kpax_admin"
APP_ROLE = "kpax_app"


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
        "routeEnabled": True,
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
    """The application role's password in force, made when there is none. Repeatable."""
    vault = settings.cluster_vaults[space.cluster]
    return await ports.secrets.create(vault, names.role_secret(space), ports.ids.secret())


async def application_settings(ports: Ports, settings: Settings, space: Space) -> str:
    """The JSON of the secret `settings`: what the application of this space is told."""
    resources = space.resources
    if resources is None:
        raise ValueError(f"space {space.space_id} has no resources yet")
    storage = await ports.accounts.connection_of_space(
        resources.resource_group, resources.storage_account, resources.blob_endpoint
    )
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
            "user": APP_ROLE,
            "password": await role_password(ports, settings, space),
        },
        "storage": {**storage, "container": space.container},
        "app": {"title": space.name, "locale": "en"},
    }
    return json.dumps(document, sort_keys=True)
