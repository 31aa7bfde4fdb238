"""Accounts are opened by the right that the estate uses: keys out of ARM, or identities."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from local.resource_manager.cloud import Identities
from spaces.adapters import accounts as accounts_module
from spaces.adapters.accounts import AzureAccounts
from spaces.adapters.arm import AzureArm
from spaces.adapters.blobs import AzureBlobs
from spaces.adapters.credentials import StaticCredential
from spaces.errors import DeniedError, InvalidError, NotFoundError
from spaces.ports import Accounts, StackState
from tests.builders import a_stack_request
from tests.conformance.scripted import Reply, scripted
from tests.fakes import FakeAccounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from spaces.adapters.wire import Wire
    from tests.conformance.parts import Parts

ENDPOINT = "http://127.0.0.1:1/kxacme"


class Rig:
    """Accounts, with one account of a space that exists."""

    def __init__(self, accounts: Accounts, group: str, account: str, endpoint: str) -> None:
        self.accounts = accounts
        self.of = (group, account, endpoint)


@pytest.fixture(params=["fake", pytest.param("local", marks=pytest.mark.stack)])
async def rig(request: pytest.FixtureRequest, wire: Wire, unique: str) -> AsyncIterator[Rig]:
    if request.param == "fake":
        yield Rig(FakeAccounts(("france",)), "rg", unique, ENDPOINT)
        return
    parts: Parts = request.getfixturevalue("parts")
    endpoint, backup = await asyncio.to_thread(_start, parts)
    credential = StaticCredential(parts.home.secret("token"))
    arm = AzureArm(
        wire,
        endpoint=endpoint,
        subscription=parts.home.value("subscription_id", lambda: str(uuid.uuid4())),
        credential=credential,
        excluded_principal=Identities(parts.home).principal("control-plane"),
    )
    accounts = AzureAccounts(
        wire,
        arm,
        credential=credential,
        backup_accounts={"france": backup},
        allow_shared_key=True,
    )
    blob_endpoint = await _account_of_a_space(arm, unique)
    yield Rig(accounts, f"rg-{unique}", unique, blob_endpoint)
    await accounts.close()
    await arm.close()


def _start(parts: Parts) -> tuple[str, str]:
    parts.start_azurite()
    endpoint = f"http://127.0.0.1:{parts.home.port('resource_manager')}"
    parts.start("resource_manager", health=f"{endpoint}/healthz")
    return endpoint, parts.account("kxbakfrance").connection_string


async def _account_of_a_space(arm: AzureArm, name: str) -> str:
    """Deploy a storage account as a stack does; answers its blob endpoint."""
    await arm.put_stack(a_stack_request(f"s-{name}-1", template=_template(name), parameters={}))
    until = time.monotonic() + 20
    while (stack := await arm.get_stack(f"s-{name}-1")).state is StackState.RUNNING:
        assert time.monotonic() < until, "the stack does not end"
        await asyncio.sleep(0.02)
    assert stack.state is StackState.SUCCEEDED, stack
    return str(stack.outputs["blob"])


def _template(name: str) -> dict[str, Any]:
    inner = {
        "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "resources": [
            {
                "type": "Microsoft.Storage/storageAccounts",
                "apiVersion": "2024-01-01",
                "name": name,
                "location": "francecentral",
                "sku": {"name": "Standard_ZRS"},
                "kind": "StorageV2",
                "properties": {"allowSharedKeyAccess": True},
            }
        ],
        "outputs": {
            "blob": {
                "type": "string",
                "value": f"[reference('{name}').primaryEndpoints.blob]",
            }
        },
    }
    group = {
        "type": "Microsoft.Resources/resourceGroups",
        "apiVersion": "2024-03-01",
        "name": f"rg-{name}",
        "location": "francecentral",
    }
    nested = {
        "type": "Microsoft.Resources/deployments",
        "apiVersion": "2024-03-01",
        "name": "storage",
        "resourceGroup": f"rg-{name}",
        "dependsOn": [f"rg-{name}"],
        "properties": {
            "mode": "Incremental",
            "expressionEvaluationOptions": {"scope": "inner"},
            "template": inner,
        },
    }
    return {
        "$schema": "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "resources": [group, nested],
        "outputs": {
            "blob": {"type": "string", "value": "[reference('storage').outputs.blob.value]"}
        },
    }


async def test_the_account_of_a_space_keeps_what_is_put_there(rig: Rig) -> None:
    blobs = await rig.accounts.of_space(*rig.of)
    await blobs.ensure_container("attachments")
    await blobs.create("attachments", "a", b"bytes")
    again = await rig.accounts.of_space(*rig.of)
    assert await again.read("attachments", "a") == b"bytes"


async def test_the_backup_account_stands_outside_every_space(rig: Rig, unique: str) -> None:
    space, backup = await rig.accounts.of_space(*rig.of), rig.accounts.backup_of("france")
    await backup.ensure_container(unique)
    await backup.create(unique, "manifest", b"{}")
    assert await rig.accounts.backup_of("france").read(unique, "manifest") == b"{}"
    assert await space.info(unique, "manifest") is None


async def test_a_cluster_without_a_backup_account_is_named(rig: Rig) -> None:
    with pytest.raises(InvalidError, match="atlantis"):
        rig.accounts.backup_of("atlantis")


async def test_an_application_that_may_use_keys_is_given_a_connection_string(
    rig: Rig,
) -> None:
    told = await rig.accounts.connection_of_space(*rig.of)
    assert list(told) == ["connection_string"]
    parts = dict(part.split("=", 1) for part in told["connection_string"].split(";") if part)
    assert parts["AccountName"] == rig.of[1]
    assert parts["BlobEndpoint"] == rig.of[2].rstrip("/")
    assert parts["AccountKey"]


@pytest.mark.stack
async def test_the_connection_string_opens_the_account(
    rig: Rig, wire: Wire, request: pytest.FixtureRequest
) -> None:
    told = await rig.accounts.connection_of_space(*rig.of)
    if isinstance(rig.accounts, FakeAccounts):
        assert told["connection_string"].startswith("DefaultEndpointsProtocol=http;")
        return
    blobs = AzureBlobs(wire, connection=told["connection_string"])
    await blobs.ensure_container("theirs")
    await blobs.create("theirs", "a", b"1")
    assert await (await rig.accounts.of_space(*rig.of)).read("theirs", "a") == b"1"


async def test_each_of_two_keys_opens_the_account_and_one_is_made_anew(
    rig: Rig, wire: Wire
) -> None:
    first = await rig.accounts.connection_of_space(*rig.of)
    second = await rig.accounts.connection_of_space(*rig.of, key=2)
    assert first != second
    await (await rig.accounts.of_space(*rig.of, key=2)).ensure_container("both")
    await rig.accounts.renew_key(*rig.of[:2], key=1)
    assert await rig.accounts.connection_of_space(*rig.of, key=2) == second
    renewed = await rig.accounts.connection_of_space(*rig.of)
    assert renewed not in (first, second)
    if isinstance(rig.accounts, FakeAccounts):
        return
    for told in (renewed, second):
        await AzureBlobs(wire, connection=told["connection_string"]).ensure_container("both")
    with pytest.raises(DeniedError):
        await AzureBlobs(wire, connection=first["connection_string"]).ensure_container("both")


async def test_where_identities_are_used_there_is_no_key_to_make_anew(wire: Wire) -> None:
    async with scripted() as server:
        accounts = _accounts(wire, server.url, allow_shared_key=False)
        await accounts.renew_key("rg", "kxacme", key=1)
        assert server.asked == []


def _accounts(wire: Wire, url: str, **over: Any) -> AzureAccounts:
    arm = AzureArm(
        wire,
        endpoint=url,
        subscription="sub",
        credential=StaticCredential("t"),
        excluded_principal="p",
    )
    given: dict[str, Any] = {
        "credential": StaticCredential("t"),
        "backup_accounts": {"france": "https://kxbakfrance.blob.core.windows.net"},
        "allow_shared_key": True,
    }
    return AzureAccounts(wire, arm, **{**given, **over})


async def test_a_key_is_asked_for_once_until_it_is_old(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with scripted() as server:
        server.will(Reply(body={"keys": [{"keyName": "key1", "value": "a2V5"}]}))
        accounts = _accounts(wire, server.url)
        for _ in range(3):
            told = await accounts.connection_of_space("rg", "kxacme", ENDPOINT)
        assert told["connection_string"] == (
            "DefaultEndpointsProtocol=http;AccountName=kxacme;AccountKey=a2V5;"
            f"BlobEndpoint={ENDPOINT};"
        )
        assert [method for method, _ in server.asked] == ["POST"]
        assert "/storageAccounts/kxacme/listKeys?" in server.asked[0][1]
        monkeypatch.setattr(accounts_module, "KEY_KEPT_S", -1.0)
        await accounts.connection_of_space("rg", "kxother", ENDPOINT)
        await accounts.connection_of_space("rg", "kxother", ENDPOINT)
        assert len(server.asked) == 3


async def test_where_identities_are_used_no_key_is_asked_for(wire: Wire) -> None:
    async with scripted() as server:
        server.will(Reply(status=500))
        accounts = _accounts(wire, server.url, allow_shared_key=False)
        endpoint = "https://kxacme.blob.core.windows.net/"
        assert await accounts.connection_of_space("rg", "kxacme", endpoint) == {
            "account_url": endpoint
        }
        await accounts.of_space("rg", "kxacme", endpoint)
        accounts.backup_of("france")
        assert server.asked == []


async def test_an_account_that_is_not_there_or_not_ours_is_told_as_such(wire: Wire) -> None:
    async with scripted() as server:
        accounts = _accounts(wire, server.url)
        server.will(Reply(status=404, body={"error": {"code": "ResourceNotFound"}}))
        with pytest.raises(NotFoundError):
            await accounts.of_space("rg", "kxacme", ENDPOINT)
        server.will(Reply(status=403, body={"error": {"code": "AuthorizationFailed"}}))
        with pytest.raises(DeniedError):
            await accounts.of_space("rg", "kxacme", ENDPOINT)
