"""Keys through the unmodified SDK; its own public-key operations are the oracle."""

from __future__ import annotations

import hashlib
import os
import uuid
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.keyvault.keys import KeyClient, KeyOperation, KeyVaultKey
from azure.keyvault.keys.aio import KeyClient as AsyncKeyClient
from azure.keyvault.keys.crypto import (
    EncryptionAlgorithm,
    KeyWrapAlgorithm,
    SignatureAlgorithm,
)
from azure.keyvault.keys.crypto.aio import CryptographyClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.local.running_vaults import RunningVaults

pytestmark = pytest.mark.stack


@pytest.fixture
async def client(server: RunningVaults) -> AsyncIterator[AsyncKeyClient]:
    vault = await server.vaults.ensure(f"kv-{uuid.uuid4().hex[:8]}")
    async with AsyncKeyClient(vault.uri, server.async_credential(), **server.options) as client:
        yield client


def crypto(server: RunningVaults, key: KeyVaultKey | str) -> CryptographyClient:
    return CryptographyClient(key, server.async_credential(), **server.options)


async def test_a_wrapped_data_key_comes_back(
    server: RunningVaults, client: AsyncKeyClient
) -> None:
    await client.create_rsa_key("backup-kek", size=2048)
    data_key = os.urandom(32)
    by_name = client.get_cryptography_client(
        "backup-kek"
    )  # closing it would close `client` too
    wrapped = await by_name.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, data_key)
    key = await client.get_key("backup-kek")
    assert wrapped.key_id == key.id
    async with crypto(server, key) as by_key:
        unwrapped = await by_key.unwrap_key(
            KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key
        )
    assert unwrapped.key == data_key


async def test_a_flipped_bit_or_another_key_does_not_unwrap(
    server: RunningVaults, client: AsyncKeyClient
) -> None:
    one, other = await client.create_rsa_key("one"), await client.create_rsa_key("other")
    async with crypto(server, one) as first, crypto(server, other) as second:
        wrapped = (await first.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"k" * 32)).encrypted_key
        flipped = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
        for who, value in ((first, flipped), (second, wrapped)):
            with pytest.raises(HttpResponseError) as failure:
                await who.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, value)
            assert failure.value.status_code == 400


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384"])
async def test_a_signature_made_in_the_vault_is_good_outside(
    server: RunningVaults, client: AsyncKeyClient, algorithm: str
) -> None:
    key = (
        await client.create_ec_key("k", curve={"ES256": "P-256", "ES384": "P-384"}[algorithm])
        if algorithm.startswith("ES")
        else await client.create_rsa_key("k")
    )
    digest = hashlib.new(f"sha{algorithm[2:]}", b"what was decided").digest()
    async with crypto(server, key) as client_of_key:
        made = await client_of_key.sign(SignatureAlgorithm(algorithm), digest)
        # The client checks with the public half in its own process, not by asking the vault.
        assert (await client_of_key.verify(made.algorithm, digest, made.signature)).is_valid
        other = hashlib.new(f"sha{algorithm[2:]}", b"something else").digest()
        assert not (await client_of_key.verify(made.algorithm, other, made.signature)).is_valid


async def test_the_vault_verifies_and_encrypts_by_itself(
    server: RunningVaults, client: AsyncKeyClient
) -> None:
    rsa, curve = (
        await client.create_rsa_key("r"),
        await client.create_ec_key("e", curve="P-256"),
    )
    digest = hashlib.sha256(b"x").digest()
    for key, algorithm in ((rsa, SignatureAlgorithm.rs256), (curve, SignatureAlgorithm.es256)):
        async with CryptographyClient(
            key.id, server.async_credential(), **server.options
        ) as remote:
            remote._keys_get_forbidden = True  # as an identity that may not see the public half
            signature = (await remote.sign(algorithm, digest)).signature
            assert (await remote.verify(algorithm, digest, signature)).is_valid
            assert not (await remote.verify(algorithm, digest, b"\0" * len(signature))).is_valid
    async with CryptographyClient(
        rsa.id, server.async_credential(), **server.options
    ) as remote:
        remote._keys_get_forbidden = True
        sealed = await remote.encrypt(EncryptionAlgorithm.rsa_oaep, b"text")
        assert (
            await remote.decrypt(EncryptionAlgorithm.rsa_oaep, sealed.ciphertext)
        ).plaintext == b"text"


async def test_rotation_makes_a_version_and_the_old_one_still_unwraps(
    server: RunningVaults, client: AsyncKeyClient
) -> None:
    first = await client.create_rsa_key("kek", tags={"duty": "backup"})
    async with crypto(server, first) as old:
        wrapped = (await old.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"d" * 32)).encrypted_key
    second = await client.rotate_key("kek")
    assert second.properties.version != first.properties.version
    assert second.key.n != first.key.n
    assert second.properties.tags == {"duty": "backup"}
    versions = [v.version async for v in client.list_properties_of_key_versions("kek")]
    assert versions == [first.properties.version, second.properties.version]
    again = await client.get_key("kek", first.properties.version)
    async with crypto(server, again) as old:
        assert (await old.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped)).key == b"d" * 32


async def test_only_permitted_operations_of_an_enabled_key_work(
    server: RunningVaults, client: AsyncKeyClient
) -> None:
    key = await client.create_rsa_key("k", key_operations=[KeyOperation.wrap_key])
    assert key.key_operations == ["wrapKey"]
    async with crypto(server, key.id) as remote:
        remote._keys_get_forbidden = True
        with pytest.raises(HttpResponseError, match="not permitted"):
            await remote.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"\0" * 256)
        await client.update_key_properties("k", enabled=False)
        with pytest.raises(HttpResponseError, match="is disabled"):
            await remote.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"k")


async def test_an_unknown_type_size_or_algorithm_is_refused(
    server: RunningVaults, client: AsyncKeyClient
) -> None:
    for make in (
        client.create_key("k", "oct"),
        client.create_rsa_key("k", size=1024),
        client.create_ec_key("k", curve="P-256K"),
    ):
        with pytest.raises(HttpResponseError) as failure:
            await make
        assert failure.value.status_code == 400
    with pytest.raises(ResourceNotFoundError):
        await client.get_key("k")


def test_the_sync_client_creates_lists_and_deletes(server: RunningVaults) -> None:
    import asyncio  # noqa: PLC0415 — this test has no loop of its own

    vault = asyncio.run(server.vaults.ensure(f"kv-{uuid.uuid4().hex[:8]}"))
    with KeyClient(vault.uri, server.credential(), **server.options) as client:
        made = client.create_ec_key("k", curve="P-256")
        assert client.get_key("k").id == made.id
        assert [key.id for key in client.list_properties_of_keys()] == [
            made.id.rpartition("/")[0]
        ]
        client.begin_delete_key("k").result()
        assert [key.name for key in client.list_deleted_keys()] == ["k"]
        client.begin_recover_deleted_key("k").wait()
        assert client.get_key("k").key_type == "EC"
