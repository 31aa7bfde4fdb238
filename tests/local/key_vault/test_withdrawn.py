"""A vault that was softly deleted: silent, and whole when it comes back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import ResourceNotFoundError, ServiceRequestError
from azure.keyvault.secrets.aio import SecretClient

if TYPE_CHECKING:
    from tests.local.running_vaults import RunningVaults

pytestmark = pytest.mark.stack


async def test_a_withdrawn_vault_is_silent_and_keeps_what_it_holds(
    server: RunningVaults,
) -> None:
    vault = await server.vaults.ensure("kv-withdrawn")
    async with SecretClient(vault.uri, server.async_credential(), **server.options) as client:
        await client.set_secret("word", "kept")
        await server.vaults.withdraw("kv-withdrawn")
        assert server.vaults.get("kv-withdrawn") is None
        with pytest.raises(ServiceRequestError):
            await client.get_secret("word")
        assert await server.vaults.restore("kv-withdrawn") == vault
        assert (await client.get_secret("word")).value == "kept"


async def test_a_withdrawn_vault_that_is_removed_is_gone(server: RunningVaults) -> None:
    vault = await server.vaults.ensure("kv-removed")
    async with SecretClient(vault.uri, server.async_credential(), **server.options) as client:
        await client.set_secret("word", "lost")
    await server.vaults.withdraw("kv-removed")
    await server.vaults.remove("kv-removed")
    assert await server.vaults.restore("kv-removed") is None
    again = await server.vaults.ensure("kv-removed")
    async with SecretClient(again.uri, server.async_credential(), **server.options) as client:
        with pytest.raises(ResourceNotFoundError):
            await client.get_secret("word")
