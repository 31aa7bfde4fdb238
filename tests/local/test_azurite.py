"""The real Azurite: accounts at run time, apart from each other, nothing lost by a clean stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import HttpResponseError
from azure.data.tables import TableServiceClient
from azure.storage.blob import BlobServiceClient

from local import processes
from local.azurite import Account, AzuriteAccounts, install, requests, servers
from local.errors import StackError
from local.home import PROJECT, Home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.processes import Identity

pytestmark = pytest.mark.stack


@pytest.fixture
def own(home: Home) -> Iterator[dict[str, Identity]]:
    """An Azurite of the test's own, which it may stop and kill."""
    started = {name: servers.start(home, name) for name in servers.SERVICES}
    yield started
    for process in processes.marked(home):
        processes.end(process.identity, sig=signal.SIGINT)


def blobs(account: Account, key: str | None = None) -> BlobServiceClient:
    text = account.connection_string.replace(account.key, key or account.key)
    return BlobServiceClient.from_connection_string(text, retry_total=0)


def tables(account: Account) -> TableServiceClient:
    return TableServiceClient.from_connection_string(account.connection_string, retry_total=0)


async def test_an_account_made_at_run_time_works_at_once(azurite: AzuriteAccounts) -> None:
    account = await azurite.ensure("fresh1")
    with blobs(account) as blob, tables(account) as table:
        blob.create_container("box").upload_blob("x", b"hello")
        assert blob.get_blob_client("box", "x").download_blob().readall() == b"hello"
        table.create_table("rows").create_entity({"PartitionKey": "a", "RowKey": "b"})
    assert await azurite.ensure("fresh1") == account == azurite.get("fresh1")


async def test_accounts_see_nothing_of_each_other(azurite: AzuriteAccounts) -> None:
    one, two = await azurite.ensure("apart1"), await azurite.ensure("apart2")
    with blobs(one) as blob:
        blob.create_container("box")
    with blobs(two) as blob:
        assert list(blob.list_containers()) == []
    with blobs(one, key=two.key) as blob, pytest.raises(HttpResponseError) as refused:
        list(blob.list_containers())
    assert refused.value.status_code == 403


async def test_a_removed_account_takes_its_data_along(azurite: AzuriteAccounts) -> None:
    account = await azurite.ensure("gone1")
    with blobs(account) as blob, tables(account) as table:
        for number in range(3):
            blob.create_container(f"box{number}").upload_blob("x", b"hello")
            table.create_table(f"rows{number}")
    await azurite.remove("gone1")
    await azurite.remove("gone1")
    assert azurite.get("gone1") is None
    assert not requests.answers(account)
    again = await azurite.ensure("gone1")
    assert again.key != account.key
    with blobs(again) as blob, tables(again) as table:
        assert list(blob.list_containers()) == []
        assert list(table.list_tables()) == []


@pytest.mark.parametrize("name", ["ab", "Upper", "with-dash", "a" * 25, "a:b", "a;b"])
async def test_a_malformed_account_name_is_refused(azurite: AzuriteAccounts, name: str) -> None:
    with pytest.raises(StackError, match="no storage account name"):
        await azurite.ensure(name)


async def test_a_clean_stop_loses_nothing_acknowledged(
    home: Home, own: dict[str, Identity]
) -> None:
    account = await AzuriteAccounts(home).ensure("kept1")
    with blobs(account) as blob, tables(account) as table:
        blob.create_container("box").upload_blob("x", b"hello")
        rows = table.create_table("rows")
        for number in range(20):
            rows.create_entity({"PartitionKey": "a", "RowKey": str(number)})
    for name, identity in own.items():
        assert servers.stop(home, name, identity)
        assert not servers.ended_uncleanly(home, name)
    for name in servers.SERVICES:
        servers.start(home, name)
    await AzuriteAccounts(home).ensure("kept1")
    with blobs(account) as blob, tables(account) as table:
        assert blob.get_blob_client("box", "x").download_blob().readall() == b"hello"
        assert len(list(table.get_table_client("rows").list_entities())) == 20


async def test_a_kill_is_remembered(home: Home, own: dict[str, Identity]) -> None:
    await AzuriteAccounts(home).ensure("any1")
    identity = own["azurite_table"]
    os.kill(identity.pid, signal.SIGKILL)
    assert processes.wait_gone([identity], timeout_s=5)
    assert not servers.stop(home, "azurite_table", identity)
    assert servers.ended_uncleanly(home, "azurite_table")


async def test_an_azurite_that_does_not_run_is_told(home: Home) -> None:
    with pytest.raises(StackError, match="does not answer for account early1"):
        await AzuriteAccounts(home).ensure("early1", timeout_s=0.05)
    assert AzuriteAccounts(home).get("early1")  # registered: it will work once Azurite runs


def test_a_key_is_not_in_what_gets_logged(home: Home) -> None:
    account = AzuriteAccounts(home).register("quiet1")
    assert account.key not in repr(account)


def test_node_is_found_without_one_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    told = subprocess.run([servers.node(), "--version"], capture_output=True, check=True)
    assert re.match(rb"v\d+", told.stdout)


def test_the_npm_of_the_node_wheel_runs() -> None:
    packaged = servers.packaged_node()
    assert packaged
    command = install._npm(packaged)
    assert command
    environment = {"PATH": str(packaged.parent), "HOME": "/nonexistent"}
    told = subprocess.run(
        [*command, "--version"], env=environment, capture_output=True, check=True
    )
    assert re.match(rb"\d+\.", told.stdout)


def test_the_package_is_pinned_with_hashes_and_without_addresses() -> None:
    lock = json.loads((PROJECT / "local/azurite/package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages["node_modules/azurite"]["version"] == "3.35.0"
    for name, entry in packages.items():
        assert "resolved" not in entry, name
        assert entry.get("integrity") or entry.get("inBundle"), name
