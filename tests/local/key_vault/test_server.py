"""Who gets in, what survives a kill, and how vaults come and go."""

from __future__ import annotations

import asyncio
import socket
import ssl
import stat
from typing import TYPE_CHECKING

import aiohttp
import pytest
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.secrets.aio import SecretClient

from local.errors import StackError
from local.home import Home
from local.key_vault.ca import ca_file, server_context
from local.key_vault.vaults import Vaults

if TYPE_CHECKING:
    from pathlib import Path

    from tests.local.running_vaults import RunningVaults

pytestmark = pytest.mark.stack


def secrets_of(server: RunningVaults, uri: str, token: str | None = None) -> SecretClient:
    return SecretClient(uri, server.async_credential(token), **server.options)


async def test_a_reading_token_reads_secrets_of_its_own_vault_and_nothing_else(
    server: RunningVaults,
) -> None:
    found = await server.vaults.ensure_all(["kv-space-a", "kv-space-b"])
    mine, foreign = found["kv-space-a"], found["kv-space-b"]
    for vault in (mine, foreign):
        async with secrets_of(server, vault.uri) as owner:
            await owner.set_secret("settings", f"of {vault.name}")
    token = server.vaults.token("kv-space-a")
    async with secrets_of(server, mine.uri, token) as reader:
        assert (await reader.get_secret("settings")).value == "of kv-space-a"
        assert [item.name async for item in reader.list_properties_of_secrets()] == ["settings"]
        for attempt in (
            reader.set_secret("settings", "mine now"),
            reader.delete_secret("settings"),
            reader.update_secret_properties("settings", enabled=False),
            reader.get_deleted_secret("settings"),
        ):
            with pytest.raises(HttpResponseError) as failure:
                await attempt
            assert failure.value.status_code == 403
    async with KeyClient(mine.uri, server.async_credential(token), **server.options) as keys:
        with pytest.raises(HttpResponseError) as failure:
            await keys.create_ec_key("k")
        assert failure.value.status_code == 403
    async with secrets_of(server, foreign.uri, token) as intruder:
        with pytest.raises(HttpResponseError) as failure:
            await intruder.get_secret("settings")
        assert failure.value.status_code == 403
        assert "of kv-space-b" not in str(failure.value)


@pytest.mark.parametrize(
    "token",
    ["wrong", "reader.kv-forged.00", "reader.kv-forged.", "reader..", "reader", "ÿ", ""],
)
async def test_any_other_token_is_answered_with_the_challenge(
    server: RunningVaults, token: str
) -> None:
    vault = await server.vaults.ensure("kv-forged")
    tls = ssl.create_default_context(cafile=ca_file(server.home))
    async with aiohttp.ClientSession() as session:
        url = f"{vault.uri}secrets/settings?api-version=7.6"
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with session.get(url, headers=headers, ssl=tls) as answer:
            assert answer.status == 401
            challenge = answer.headers["WWW-Authenticate"]
            assert challenge.startswith('Bearer authorization="https://')
            assert 'resource="https://vault.azure.net"' in challenge


async def test_a_wrong_token_is_an_authentication_error_to_the_sdk(
    server: RunningVaults,
) -> None:
    vault = await server.vaults.ensure("kv-closed")
    async with secrets_of(server, vault.uri, "wrong") as client:
        with pytest.raises(ClientAuthenticationError):
            await client.get_secret("settings")


async def test_what_was_acknowledged_survives_kill_9(own_server: RunningVaults) -> None:
    vault = await own_server.vaults.ensure("kv")
    acknowledged: list[int] = []
    enough = asyncio.Event()

    async def keep_writing(client: SecretClient) -> None:
        for number in range(10_000):
            await client.set_secret("counter", str(number))
            acknowledged.append(number)
            if number == 20:
                enough.set()

    async with (
        KeyClient(vault.uri, own_server.async_credential(), **own_server.options) as keys,
        secrets_of(own_server, vault.uri) as client,
    ):
        key = await keys.create_ec_key("k")
        writer = asyncio.create_task(keep_writing(client))
        await enough.wait()
        own_server.kill()
        with pytest.raises(AzureError):
            await writer
    await own_server.start()
    async with (
        KeyClient(vault.uri, own_server.async_credential(), **own_server.options) as keys,
        secrets_of(own_server, vault.uri) as client,
    ):
        assert (await keys.get_key("k")).id == key.id
        last = int((await client.get_secret("counter")).value or "")
        assert acknowledged[-1] <= last <= acknowledged[-1] + 1
        count = len([v async for v in client.list_properties_of_secret_versions("counter")])
        assert count == last + 1


async def test_a_removed_vault_is_gone_and_a_new_one_of_its_name_is_empty(
    own_server: RunningVaults,
) -> None:
    vaults = own_server.vaults
    first = await vaults.ensure("kv")
    async with secrets_of(own_server, first.uri) as client:
        await client.set_secret("settings", "deeply-hidden-text")
    await vaults.remove("kv")
    await vaults.remove("kv")
    assert vaults.get("kv") is None
    async with secrets_of(own_server, first.uri) as client:
        with pytest.raises(Exception, match=r"Cannot connect|Connect call failed"):
            await client.get_secret("settings")
    second = await vaults.ensure("kv")
    async with secrets_of(own_server, second.uri) as client:
        with pytest.raises(ResourceNotFoundError):
            await client.get_secret("settings")
    for file in own_server.home.path("key_vault", "x").parent.iterdir():
        assert b"deeply-hidden-text" not in file.read_bytes()


async def test_vaults_registered_while_no_server_runs_are_served_later(
    tmp_path: Path, own_server: RunningVaults
) -> None:
    own_server.kill()
    names = [f"kv-{number}" for number in range(20)]
    found = await own_server.vaults.ensure_all(names)
    assert len({vault.port for vault in found.values()}) == 20
    await own_server.start()
    async with secrets_of(own_server, found["kv-19"].uri) as client:
        await client.set_secret("a", "1")
    # Registered by another process that could not tell the server: it looks by itself.
    quiet = Vaults(own_server.home)
    vault = quiet._register(["kv-quiet"])["kv-quiet"]
    while True:
        try:
            async with secrets_of(own_server, vault.uri) as client:
                await client.set_secret("a", "1")
            break
        except HttpResponseError:
            raise
        except Exception:  # noqa: BLE001 — not listening yet
            await asyncio.sleep(0.02)


async def test_no_value_and_no_token_reaches_the_log(own_server: RunningVaults) -> None:
    vault = await own_server.vaults.ensure("kv")
    async with secrets_of(own_server, vault.uri) as client:
        await client.set_secret("a", "very-secret-value")
        await client.get_secret("a")
    own_server.kill()
    text = own_server.log.read_text()
    assert "key_vault.serving" in text
    assert "very-secret-value" not in text
    assert own_server.home.secret("token") not in text


async def test_what_is_not_offered_says_so(server: RunningVaults) -> None:
    vault = await server.vaults.ensure("kv-rest")
    tls = ssl.create_default_context(cafile=ca_file(server.home))
    headers = {"Authorization": f"Bearer {server.home.secret('token')}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        url = f"{vault.uri}certificates/a?api-version=7.6"
        async with session.get(url, ssl=tls) as answer:
            assert answer.status == 501
            assert (await answer.json())["error"]["code"] == "NotImplemented"
        async with session.get(f"{vault.uri}secrets/a", ssl=tls) as answer:
            assert answer.status == 400


async def test_only_the_stack_may_make_the_server_look_again(server: RunningVaults) -> None:
    url = f"http://127.0.0.1:{server.home.port('key_vault')}/_local/refresh"
    async with aiohttp.ClientSession() as session, session.post(url) as answer:
        assert answer.status == 401


def test_the_authority_is_made_once_and_its_key_is_private(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    first = ca_file(home).read_bytes()
    server_context(home)
    assert ca_file(home).read_bytes() == first
    for name in ("ca.key", "server.pem"):
        assert stat.S_IMODE(home.path("key_vault", name).stat().st_mode) == 0o600


async def test_a_taken_port_keeps_one_vault_away_and_no_other(
    own_server: RunningVaults,
) -> None:
    vaults = own_server.vaults
    with socket.create_server(("127.0.0.1", own_server.home.port("vault_kv-blocked"))):
        with pytest.raises(StackError, match="not served"):
            await vaults.ensure_all(["kv-blocked", "kv-free"])
        free = vaults.get("kv-free")
        assert free
        async with secrets_of(own_server, free.uri) as client:
            await client.set_secret("a", "1")
    blocked = await vaults.ensure("kv-blocked")
    async with secrets_of(own_server, blocked.uri) as client:
        await client.set_secret("a", "1")
