"""Secrets through the unmodified SDK, sync and aio."""

from __future__ import annotations

import datetime
import uuid
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.keyvault.secrets import SecretClient
from azure.keyvault.secrets.aio import SecretClient as AsyncSecretClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.local.running_vaults import RunningVaults

pytestmark = pytest.mark.stack


@pytest.fixture
async def client(server: RunningVaults) -> AsyncIterator[AsyncSecretClient]:
    vault = await server.vaults.ensure(f"kv-{uuid.uuid4().hex[:8]}")
    async with AsyncSecretClient(
        vault.uri, server.async_credential(), **server.options
    ) as client:
        yield client


async def test_a_secret_is_read_back_with_its_version_type_and_tags(
    client: AsyncSecretClient,
) -> None:
    set_ = await client.set_secret("db", "pässword", content_type="text/x", tags={"a": "b"})
    got = await client.get_secret("db")
    assert (got.value, got.properties.version) == ("pässword", set_.properties.version)
    assert (got.properties.content_type, got.properties.tags) == ("text/x", {"a": "b"})
    assert got.properties.enabled
    assert got.properties.vault_url == client.vault_url.rstrip("/")
    assert got.properties.created_on is not None


async def test_setting_again_makes_a_version_and_keeps_the_old_one(
    client: AsyncSecretClient,
) -> None:
    first = await client.set_secret("settings", "1")
    second = await client.set_secret("settings", "2")
    assert (await client.get_secret("settings")).value == "2"
    assert (await client.get_secret("settings", first.properties.version)).value == "1"
    versions = [v.version async for v in client.list_properties_of_secret_versions("settings")]
    assert versions == [first.properties.version, second.properties.version]


async def test_an_unknown_secret_or_version_is_not_found(client: AsyncSecretClient) -> None:
    with pytest.raises(ResourceNotFoundError) as failure:
        await client.get_secret("nothing")
    assert failure.value.error is not None
    assert failure.value.error.code == "SecretNotFound"
    await client.set_secret("something", "x")
    with pytest.raises(ResourceNotFoundError):
        await client.get_secret("something", "0" * 32)


async def test_lists_page_and_show_no_value(client: AsyncSecretClient) -> None:
    names = [f"s-{number:02}" for number in range(30)]
    for name in names:
        await client.set_secret(name, "hidden")
    pages = client.list_properties_of_secrets(max_page_size=7).by_page()
    sizes = [len([item async for item in page]) async for page in pages]
    assert sizes == [7, 7, 7, 7, 2]
    assert [item.name async for item in client.list_properties_of_secrets()] == names


async def test_a_deleted_secret_can_be_recovered_or_purged(client: AsyncSecretClient) -> None:
    await client.set_secret("a", "1")
    deleted = await client.delete_secret("a")
    assert deleted.deleted_date is not None
    assert deleted.scheduled_purge_date is not None
    with pytest.raises(ResourceNotFoundError):
        await client.get_secret("a")
    with pytest.raises(ResourceExistsError):
        await client.set_secret("a", "2")
    assert [d.name async for d in client.list_deleted_secrets()] == ["a"]
    assert (await client.get_deleted_secret("a")).name == "a"
    await client.recover_deleted_secret("a")
    assert (await client.get_secret("a")).value == "1"
    await client.delete_secret("a")
    await client.purge_deleted_secret("a")
    with pytest.raises(ResourceNotFoundError):
        await client.get_deleted_secret("a")
    assert (await client.set_secret("a", "3")).value == "3"
    assert len([v async for v in client.list_properties_of_secret_versions("a")]) == 1


async def test_a_disabled_or_early_secret_is_refused(client: AsyncSecretClient) -> None:
    made = await client.set_secret("a", "1")
    changed = await client.update_secret_properties("a", enabled=False, tags={"k": "v"})
    assert (changed.enabled, changed.tags, changed.version) == (
        False,
        {"k": "v"},
        made.properties.version,
    )
    with pytest.raises(HttpResponseError) as failure:
        await client.get_secret("a")
    assert failure.value.status_code == 403
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
    await client.set_secret("b", "1", not_before=later)
    with pytest.raises(HttpResponseError):
        await client.get_secret("b")


async def test_bad_input_is_refused_by_name(client: AsyncSecretClient) -> None:
    for name, value in (("under_score", "x"), ("ok", "x" * 25_001)):
        with pytest.raises(HttpResponseError) as failure:
            await client.set_secret(name, value)
        assert failure.value.status_code == 400
        assert failure.value.error is not None
        assert failure.value.error.code == "BadParameter"


def test_the_sync_client_works_the_same(server: RunningVaults) -> None:
    import asyncio  # noqa: PLC0415 — this test has no loop of its own

    vault = asyncio.run(server.vaults.ensure(f"kv-{uuid.uuid4().hex[:8]}"))
    with SecretClient(vault.uri, server.credential(), **server.options) as client:
        client.set_secret("a", "1")
        assert client.get_secret("a").value == "1"
        assert [item.name for item in client.list_properties_of_secrets()] == ["a"]
        poller = client.begin_delete_secret("a")
        assert poller.result().name == "a"
        with pytest.raises(ResourceNotFoundError):
            client.get_secret("a")
