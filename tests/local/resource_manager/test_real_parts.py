"""One space on real parts: its processes, its data, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import aiohttp
import asyncpg
import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.keyvault.keys import KeyClient
from azure.keyvault.secrets import SecretClient
from azure.storage.blob import BlobServiceClient

from local import processes
from local.app_settings import subscription_id
from local.azurite import AzuriteAccounts, servers
from local.azurite.accounts import CONTROL_ACCOUNT
from local.home import PROJECT, Home
from local.key_vault.vaults import Vaults
from local.postgres import PostgresServers
from local.resource_manager.cloud import Identities
from local.resource_manager.providers.blob import BlobContainers
from local.resource_manager.seed import seed
from tests.local.resource_manager.clients import (
    Arm,
    Token,
    a_group,
    an_account,
    group_template,
    infra,
    nested,
    space_parameters,
    stack_body,
    subscription_template,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.stack
STACK = "s-abcdefghij-1"
DELETE = {"unmanage_action_resources": "delete", "unmanage_action_resource_groups": "delete"}


class Cloud:
    """Azurite, Key Vault, front door and Resource Manager of one throw-away home."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.azurite = {name: servers.start(home, name) for name in servers.SERVICES}
        self.parts: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("key_vault", "front_door", "resource_manager"):
            self.start(name)
        asyncio.run(AzuriteAccounts(home).ensure(CONTROL_ACCOUNT))
        for name in self.parts:
            until(lambda name=name: self.answers(name))

    def start(self, name: str) -> None:
        environment = {**os.environ, "KPAX_HOME": str(self.home.root)}
        with self.home.path("logs", f"{name}.log").open("ab") as log:
            self.parts[name] = subprocess.Popen(
                [sys.executable, "-m", f"local.{name}"],
                env={**environment, "KPAX_ARM_RETRY_AFTER": "0"},
                stderr=log,
                cwd=PROJECT,
            )

    def answers(self, name: str) -> bool:
        url = f"http://127.0.0.1:{self.home.port(name)}/healthz"
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def local(self, method: str, path: str) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.home.port('resource_manager')}/_local/{path}",
            method=method,
            headers={"Authorization": f"Bearer {self.home.secret('token')}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 — see above
            return json.load(answer)

    def stop(self) -> None:
        for part in self.parts.values():
            part.terminate()
        for part in self.parts.values():
            part.wait(10)
        for name, identity in self.azurite.items():
            servers.stop(self.home, name, identity)
        for left in processes.marked(self.home):
            processes.end(left.identity)


def until(what: Callable[[], Any], *, within_s: float = 30.0) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    found = Cloud(Home.open(tmp_path_factory.mktemp("real") / "home"))
    try:
        asyncio.run(seed(found.home))
        yield found
    finally:
        found.stop()


@pytest.fixture
def arm(cloud: Cloud) -> Iterator[Arm]:
    class Names:
        identities = Identities(cloud.home)
        subscription = subscription_id(cloud.home)

    names: Any = Names()
    found = Arm(cloud.home, names)
    yield found
    for client in found.clients:
        client.close()


@pytest.fixture
def space(cloud: Cloud, arm: Arm) -> Iterator[dict[str, Any]]:
    body = stack_body(infra("space.json"), space_parameters())
    made = arm.stacks.begin_create_or_update_at_subscription(STACK, body).result()
    yield {name: one["value"] for name, one in made.properties.outputs.items()}
    arm.stacks.begin_delete_at_subscription(STACK, **DELETE).result()
    _purge(cloud, arm)


def pids(cloud: Cloud) -> dict[str, int]:
    items = cloud.local("GET", "processes")["items"]
    assert all(one["running"] for one in items), items
    return {one["name"]: one["pid"] for one in items}


def test_the_clusters_are_made_once(cloud: Cloud, arm: Arm) -> None:
    before = arm.deployments.get_at_subscription_scope("shared-india").properties.timestamp
    asyncio.run(seed(cloud.home))
    after = arm.deployments.get_at_subscription_scope("shared-india").properties.timestamp
    assert before == after
    assert len(list(arm.groups.list())) == 6
    assert AzuriteAccounts(cloud.home).get("kxbakunitedstates") is not None


def test_a_space_is_processes_and_data_and_then_it_is_gone(cloud: Cloud, arm: Arm) -> None:
    body = stack_body(infra("space.json"), space_parameters())
    made = arm.stacks.begin_create_or_update_at_subscription(STACK, body).result()
    outputs = {name: one["value"] for name, one in made.properties.outputs.items()}
    host, port = outputs["databaseHost"].split(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    running = pids(cloud)
    assert set(running) == {f"pg-{STACK}", f"vmss-{STACK}_0", f"vmss-{STACK}_1"}
    accounts, vaults = AzuriteAccounts(cloud.home), Vaults(cloud.home)
    account = accounts.get(outputs["storageAccount"])
    assert account is not None
    assert vaults.get(f"kv-{STACK}") is not None
    (route,) = json.loads(cloud.home.path("front_door", "routes.json").read_text())
    assert (route["hostname"], len(route["origins"])) == ("acme.france.localhost", 2)

    arm.stacks.begin_delete_at_subscription(STACK, **DELETE).result()
    assert cloud.local("GET", "processes")["items"] == []
    alive = {one.identity.pid for one in processes.marked(cloud.home)}
    assert alive.isdisjoint(running.values())
    assert PostgresServers(cloud.home).get(f"pg-{STACK}") is None
    assert accounts.get(outputs["storageAccount"]) is None
    assert vaults.get(f"kv-{STACK}") is None
    text = cloud.home.path("front_door", "routes.json").read_text()
    assert "acme" not in text
    left = [p for p in cloud.home.root.rglob("*abcdefghij*") if "logs" not in p.parts]
    assert [p for p in left if "locks" not in p.parts] == []
    cloud.local("POST", "repair")
    assert cloud.local("GET", "processes")["items"] == []
    _purge(cloud, arm)


def test_its_processes_survive_a_kill_of_the_resource_manager(
    cloud: Cloud, arm: Arm, space: dict[str, Any]
) -> None:
    before = pids(cloud)
    cloud.parts["resource_manager"].kill()
    cloud.parts["resource_manager"].wait(10)
    assert all(_is_alive(pid) for pid in before.values())
    os.kill(before[f"vmss-{STACK}_1"], 9)
    os.kill(before[f"pg-{STACK}"], 9)
    cloud.start("resource_manager")
    until(lambda: cloud.answers("resource_manager"))
    after = pids(cloud)
    assert after[f"vmss-{STACK}_0"] == before[f"vmss-{STACK}_0"]
    assert after[f"vmss-{STACK}_1"] != before[f"vmss-{STACK}_1"]
    host, port = space["databaseHost"].split(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    stopped = cloud.local("POST", "stop")["items"]
    assert not any(one["running"] for one in stopped)
    assert cloud.local("POST", "repair")["failures"] == []
    assert set(pids(cloud)) == set(before)


def test_what_is_stopped_keeps_its_data_and_stays_stopped_until_it_is_started(
    cloud: Cloud, arm: Arm, space: dict[str, Any]
) -> None:
    server, scale_set = paths(arm)
    before = pids(cloud)
    asked(cloud, space, "create table kept as select 7 as x")
    assert act(cloud, f"{scale_set}/deallocate")["status"] == "Succeeded"
    assert act(cloud, f"{server}/stop")["status"] == "Succeeded"
    assert not any(_is_alive(pid) for pid in before.values())
    cloud.parts["resource_manager"].terminate()
    cloud.parts["resource_manager"].wait(10)
    cloud.start("resource_manager")
    until(lambda: cloud.answers("resource_manager"))
    cloud.local("POST", "repair")
    items = cloud.local("GET", "processes")["items"]
    assert {(one["running"], one["power"]) for one in items} == {
        (False, "stopped"),
        (False, "deallocated"),
    }
    assert get(cloud, server)["properties"]["state"] == "Stopped"
    assert act(cloud, f"{server}/start")["status"] == "Succeeded"
    assert asked(cloud, space, "select x from kept") == 7
    assert act(cloud, f"{scale_set}/start")["status"] == "Succeeded"
    after = pids(cloud)
    assert set(after) == set(before)
    assert act(cloud, f"{scale_set}/restart")["status"] == "Succeeded"
    again = pids(cloud)
    assert not set(again.values()) & (set(after.values()) - {after[f"pg-{STACK}"]})


def test_settings_of_a_server_are_really_its_own(
    cloud: Cloud, arm: Arm, space: dict[str, Any]
) -> None:
    server, _ = paths(arm)
    put(cloud, f"{server}/configurations/work_mem", {"value": "8192"})
    assert asked(cloud, space, "show work_mem") == "8MB"
    put(cloud, f"{server}/configurations/max_connections", {"value": "57"})
    told = get(cloud, f"{server}/configurations/max_connections")["properties"]
    assert (told["value"], told["isConfigPendingRestart"]) == ("57", True)
    assert asked(cloud, space, "show max_connections") == "40"
    act(cloud, f"{server}/restart")
    assert asked(cloud, space, "show max_connections") == "57"
    told = get(cloud, f"{server}/configurations/max_connections")["properties"]
    assert (told["isConfigPendingRestart"], told["isDynamicConfig"]) == (False, False)
    listed = {
        one["name"]: one["properties"]["source"]
        for one in get(cloud, f"{server}/configurations")["value"]
    }
    assert (listed["max_connections"], listed["autovacuum"]) == (
        "user-override",
        "system-default",
    )
    unset = get(cloud, f"{server}/configurations/autovacuum")["properties"]
    assert (unset["value"], unset["dataType"]) == ("on", "Boolean")
    for name, value, code in (
        ("max_connections", "6", "InvalidParameterValue"),
        ("work_mem", "plenty", "InvalidParameterValue"),
        ("no_such_thing", "1", "ResourceNotFound"),
    ):
        ended = put(cloud, f"{server}/configurations/{name}", {"value": value})
        assert ended["error"]["code"] == code, name
    put(cloud, f"{server}/configurations/work_mem", {"source": "system-default"})
    assert asked(cloud, space, "show work_mem") == "4MB"


def test_another_plan_is_more_instances_with_more_memory(
    cloud: Cloud, arm: Arm, space: dict[str, Any]
) -> None:
    before = pids(cloud)
    body = stack_body(infra("space.json"), space_parameters(plan="premium"))
    arm.stacks.begin_create_or_update_at_subscription(STACK, body).result()
    after = pids(cloud)
    sets = {name for name in after if name.startswith("vmss")}
    assert sets == {f"vmss-{STACK}_{number}" for number in range(3)}
    assert after[f"vmss-{STACK}_0"] != before[f"vmss-{STACK}_0"]
    assert after[f"pg-{STACK}"] == before[f"pg-{STACK}"]
    items = cloud.local("GET", "processes")["items"]
    limits = {one["memory_limit_mib"] for one in items if one["kind"] == "instance"}
    assert limits == {256}
    assert space["databaseHost"]


def test_a_purged_vault_and_a_purged_key_are_gone_for_good(cloud: Cloud, arm: Arm) -> None:
    body = stack_body(infra("space.json"), space_parameters())
    arm.stacks.begin_create_or_update_at_subscription(STACK, body).result()
    vault = Vaults(cloud.home).get(f"kv-{STACK}")
    assert vault is not None
    options: Any = {
        "verify_challenge_resource": False,
        "connection_verify": str(cloud.home.path("key_vault", "ca.pem")),
        "use_env_settings": False,
    }
    token = Token(cloud.home.secret("token"))
    with SecretClient(vault.uri, token, **options) as secrets:
        secrets.set_secret("once", "said")
        secrets.begin_delete_secret("once").wait()
        secrets.purge_deleted_secret("once")
        with pytest.raises(ResourceNotFoundError):
            secrets.get_deleted_secret("once")
        assert list(secrets.list_deleted_secrets()) == []
        assert secrets.set_secret("once", "again").value == "again"
    with KeyClient(vault.uri, token, **options) as keys:
        keys.create_rsa_key("kek", size=2048)
        keys.begin_delete_key("kek").wait()
        keys.purge_deleted_key("kek")
        with pytest.raises(ResourceNotFoundError):
            keys.get_key("kek")
    arm.stacks.begin_delete_at_subscription(STACK, **DELETE).result()
    with pytest.raises(ResourceNotFoundError):
        arm.stacks.get_at_subscription(STACK)
    with pytest.raises(ResourceNotFoundError):
        arm.groups.get(f"rg-kx-{STACK}")
    base = f"{arm.url}/subscriptions/{arm.subscription}/providers/Microsoft.KeyVault"
    listed = get(cloud, f"{base}/deletedVaults")["value"]
    assert [one["name"] for one in listed] == [f"kv-{STACK}"]
    _purge(cloud, arm)
    assert get(cloud, f"{base}/deletedVaults")["value"] == []
    assert (
        f"kv-{STACK}".encode() not in cloud.home.path("key_vault", "vaults.json").read_bytes()
    )


def test_a_database_and_a_container_are_made_by_a_template(cloud: Cloud, arm: Arm) -> None:
    server = {
        "type": "Microsoft.DBforPostgreSQL/flexibleServers",
        "apiVersion": "2024-08-01",
        "name": "pg-alone",
        "location": "francecentral",
        "sku": {"name": "Standard_B2s", "tier": "Burstable"},
        "properties": {
            "version": "18",
            "administratorLogin": "boss",
            "administratorLoginPassword": "a-long-password",
        },
        "resources": [
            {
                "type": "databases",
                "apiVersion": "2024-08-01",
                "name": "app",
                "dependsOn": ["pg-alone"],
                "properties": {},
            }
        ],
    }
    parts = group_template(server, an_account("aloneaccount"))
    template = subscription_template(a_group("alone"), nested("fill", "alone", parts))
    for _ in range(2):
        arm.stacks.begin_create_or_update_at_subscription(
            "alone", stack_body(template)
        ).result()
    found = PostgresServers(cloud.home).get("pg-alone")
    assert found is not None

    async def databases() -> set[str]:
        connection = await asyncpg.connect(
            host=found.host, port=found.port, user="boss", password="a-long-password",
            database="app",
        )  # fmt: skip
        rows = await connection.fetch("select datname from pg_database")
        await connection.close()
        return {row["datname"] for row in rows}

    assert "app" in asyncio.run(databases())
    asyncio.run(_containers_come_and_go(AzuriteAccounts(cloud.home)))
    arm.stacks.begin_delete_at_subscription("alone", **DELETE).result()
    with pytest.raises(ResourceNotFoundError):
        arm.stacks.get_at_subscription("alone")


async def _containers_come_and_go(accounts: AzuriteAccounts) -> None:
    account = accounts.get("aloneaccount")
    assert account is not None
    async with aiohttp.ClientSession() as session:
        containers = BlobContainers(accounts, lambda: session)
        await containers.ensure("aloneaccount", "files")
        await containers.ensure("aloneaccount", "files")
        blobs = BlobServiceClient.from_connection_string(account.connection_string)
        with blobs:
            assert [one.name for one in blobs.list_containers()] == ["files"]
            await containers.remove("aloneaccount", "files")
            await containers.remove("aloneaccount", "files")
            assert list(blobs.list_containers()) == []


def paths(arm: Arm) -> tuple[str, str]:
    group = f"{arm.url}/subscriptions/{arm.subscription}/resourceGroups/rg-kx-{STACK}/providers"
    return (
        f"{group}/Microsoft.DBforPostgreSQL/flexibleServers/pg-{STACK}",
        f"{group}/Microsoft.Compute/virtualMachineScaleSets/vmss-{STACK}",
    )


def asked(cloud: Cloud, space: dict[str, Any], query: str) -> Any:
    host, port = space["databaseHost"].split(":")

    async def ask() -> Any:
        connection = await asyncpg.connect(
            host=host, port=int(port), user=space["databaseAdminUser"], database="postgres",
            password=space_parameters()["databaseAdminPassword"],
        )  # fmt: skip
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    del cloud
    return asyncio.run(ask())


def sent(cloud: Cloud, method: str, url: str, body: Any = None) -> tuple[Any, Any]:
    version = "2024-07-01" if "Microsoft.Compute" in url else "2024-08-01"
    version = "2023-07-01" if "Microsoft.KeyVault" in url else version
    request = urllib.request.Request(  # noqa: S310 — our own server
        url if "api-version" in url else f"{url}?api-version={version}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {cloud.home.secret('token')}"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 — see above
        return json.loads(answer.read() or b"null"), answer.headers


def get(cloud: Cloud, url: str) -> Any:
    return sent(cloud, "GET", url)[0]


def act(cloud: Cloud, url: str) -> Any:
    return _ended(cloud, sent(cloud, "POST", url)[1])


def put(cloud: Cloud, url: str, properties: dict[str, Any]) -> Any:
    return _ended(cloud, sent(cloud, "PUT", url, {"properties": properties})[1])


def _ended(cloud: Cloud, headers: Any) -> Any:
    def end() -> Any:
        told = get(cloud, headers["Azure-AsyncOperation"])
        return told if told["status"] != "Running" else None

    return until(end)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _purge(cloud: Cloud, arm: Arm) -> None:
    """Free the name of the vault, so that the next test may have it."""
    place = f"/subscriptions/{arm.subscription}/providers/Microsoft.KeyVault/locations"
    request = urllib.request.Request(  # noqa: S310 — our own server
        f"{arm.url}{place}/francecentral/deletedVaults/kv-{STACK}/purge?api-version=2023-07-01",
        method="POST",
        headers={"Authorization": f"Bearer {cloud.home.secret('token')}"},
    )
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 — see above
