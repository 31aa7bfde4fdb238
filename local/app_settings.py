"""The settings of the application on this machine: the same names as on Azure, local values.

Everything is computed from the home before any part runs: ports, keys, vaults and accounts are
chosen once. `app_settings.json` in the home, an object of names and values, stands over all of
it: what `local.settings.json` is to Azure's own tools.
"""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from local.azurite import AzuriteAccounts
from local.azurite.accounts import CONTROL_ACCOUNT
from local.errors import Code, StackError
from local.postgres import binaries

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from local.home import Home

CLUSTERS: Mapping[str, str] = {
    "france": "francecentral",
    "uk": "uksouth",
    "united-states": "eastus2",
    "canada": "canadacentral",
    "south-africa": "southafricanorth",
    "india": "centralindia",
}


def app_settings(home: Home) -> dict[str, str]:
    """The environment of the Functions host's app. Makes the vaults and accounts it names.

    Raises:
        StackError: `app_settings.json` is not an object of texts.
    """
    from local.key_vault.ca import ca_file  # noqa: PLC0415 — cryptography: only `up` needs it
    from local.key_vault.vaults import Vaults  # noqa: PLC0415 — aiohttp, likewise
    from local.resource_manager.cloud import Identities  # noqa: PLC0415 — likewise
    from local.service_bus.connection import connection_string  # noqa: PLC0415 — likewise

    accounts = AzuriteAccounts(home)
    control = accounts.register(CONTROL_ACCOUNT).connection_string
    vaults = _run(Vaults(home).ensure_all(vault_name(cluster) for cluster in CLUSTERS))
    front_door = home.port("front_door")
    settings = {
        "AzureWebJobsStorage": control,
        "KPAX_STORAGE": control,
        "ServiceBus": connection_string(home),
        "KPAX_BUS_ADMIN": f"http://127.0.0.1:{home.port('service_bus_admin')}",
        "KPAX_ARM_ENDPOINT": f"http://127.0.0.1:{home.port('resource_manager')}",
        "KPAX_SUBSCRIPTION_ID": subscription_id(home),
        "KPAX_STATIC_TOKEN": home.secret("token"),
        "KPAX_CONTROL_PRINCIPAL": Identities(home).principal("control-plane"),
        "KPAX_CLUSTER_VAULTS": json.dumps(
            {cluster: vaults[vault_name(cluster)].uri for cluster in CLUSTERS}
        ),
        "KPAX_BACKUP_ACCOUNTS": json.dumps(
            {
                cluster: accounts.register(backup_account(cluster)).connection_string
                for cluster in CLUSTERS
            }
        ),
        "KPAX_CA_FILE": str(ca_file(home)),
        "KPAX_SPACE_DOMAIN": "localhost",
        "KPAX_SPACE_URL": f"http://{{host}}:{front_door}",
        "KPAX_SPACE_RESOLVE": "127.0.0.1",
        "KPAX_ALLOW_SHARED_KEY": "true",
        "KPAX_PG_BIN": str(binaries(home)),
        "KPAX_DECISION_KEY": home.value("decision_key", _ed25519_seed),
        "KPAX_API_KEY": home.secret("function_key"),
        "KPAX_MASTER_KEY": home.secret("master_key"),
        "KPAX_ROUTE_RATE_PER_MIN": "600000",
        "KPAX_KEY_RATE_PER_MIN": "600000",
        "KPAX_POLL_FLOOR_S": "0.5",
        "KPAX_SWEEP_GRACE_S": "45",
        "KPAX_BACKUP_SCHEDULE": "0 0 2 * * *",
        "KPAX_BACKUP_WINDOW_S": "1",
        "KPAX_BACKUP_JITTER_S": "0",
        "KPAX_SWEEP_SCHEDULE": "*/15 * * * * *",
        "KPAX_RECONCILE_SCHEDULE": "0 17 * * * *",
    }
    return settings | _overrides(home)


def subscription_id(home: Home) -> str:
    """The one subscription of the local cloud."""
    return home.value("subscription_id", lambda: str(uuid.uuid4()))


def vault_name(cluster: str) -> str:
    """The control plane's vault in a cluster."""
    return f"kv-kx-{cluster}"


def backup_account(cluster: str) -> str:
    """The storage account that holds a cluster's backups."""
    return f"kxbak{cluster.replace('-', '')}"


def _overrides(home: Home) -> dict[str, str]:
    path = home.path("app_settings.json")
    if not path.exists():
        return {}
    try:
        found: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise StackError(f"{path} is not JSON: {error}.", code=Code.BAD_INPUT) from error
    if not isinstance(found, dict) or not all(
        isinstance(value, str) for value in found.values()
    ):
        raise StackError(f"{path} is not an object of texts.", code=Code.BAD_INPUT)
    return found


def _ed25519_seed() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()


def _run[T](work: Coroutine[Any, Any, T]) -> T:
    """Await in a thread of its own: the caller may or may not be inside a loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, work).result()
