"""Secrets are created once and changed by versions; keys wrap and never leave."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from azure.core.exceptions import HttpResponseError
from azure.keyvault.keys.aio import KeyClient

from local.key_vault.ca import ca_file
from local.key_vault.vaults import Vaults
from spaces.adapters.credentials import StaticCredential
from spaces.adapters.vault import VaultKeys, VaultSecrets
from spaces.adapters.wire import Wire
from spaces.errors import (
    DeniedError,
    InvalidError,
    NotFoundError,
    TransientError,
    WrongKeyError,
)
from spaces.ports import Keys, Secrets
from tests.fakes import FakeKeys, FakeSecrets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.conformance.parts import Parts

KEK = "backup-kek"


@dataclass(frozen=True)
class Rig:
    secrets: Secrets
    keys: Keys
    vault: str
    other: str


@pytest.fixture(params=["fake", pytest.param("vault", marks=pytest.mark.stack)])
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    if request.param == "fake":
        uris = ["https://kv-a.vault.azure.net/", "https://kv-b.vault.azure.net/"]
        yield Rig(FakeSecrets(), FakeKeys(uris), *uris)
        return
    parts: Parts = request.getfixturevalue("parts")
    health = f"http://127.0.0.1:{parts.home.port('key_vault')}/healthz"
    await asyncio.to_thread(parts.start, "key_vault", health=health)
    found = await Vaults(parts.home).ensure_all(["kv-a", "kv-b"])
    uris = [found["kv-a"].uri, found["kv-b"].uri]
    authority = ca_file(parts.home)
    wire = Wire(ca_file=authority)
    credential = StaticCredential(parts.home.secret("token"))
    for uri in uris:
        await _make_key(wire, uri, credential)
    secrets = VaultSecrets(wire, credential=credential, ca_file=authority)
    keys = VaultKeys(wire, credential=credential, vaults=uris, ca_file=authority)
    yield Rig(secrets, keys, *uris)
    await secrets.close()
    await keys.close()
    await wire.close()


async def _make_key(wire: Wire, vault: str, credential: StaticCredential) -> None:
    client = KeyClient(
        vault, credential, transport=wire.transport(), verify_challenge_resource=False
    )
    if not [key.name async for key in client.list_properties_of_keys()]:
        await client.create_rsa_key(KEK, size=2048)


async def test_a_secret_that_was_never_made_reads_as_nothing(rig: Rig, unique: str) -> None:
    assert await rig.secrets.get(rig.vault, unique) is None


async def test_a_secret_is_created_once(rig: Rig, unique: str) -> None:
    value = 'Zoë "1" \\ = \n'
    assert await rig.secrets.create(rig.vault, unique, value) == value
    assert await rig.secrets.create(rig.vault, unique, "another") == value
    assert await rig.secrets.get(rig.vault, unique) == value
    assert await rig.secrets.get(rig.other, unique) is None


async def test_all_who_create_at_once_agree_on_one_value(rig: Rig, unique: str) -> None:
    racing = _Racing(rig.secrets, 4) if isinstance(rig.secrets, VaultSecrets) else rig.secrets
    told = await asyncio.gather(
        *(racing.create(rig.vault, unique, f"value-{n}") for n in range(4))
    )
    assert len(set(told)) == 1
    assert await rig.secrets.get(rig.vault, unique) == told[0]


class _Racing(VaultSecrets):
    """The same clients, where all who create have looked before the first of them writes."""

    def __init__(self, real: VaultSecrets, racers: int) -> None:
        self._with, self._clients = real._with, real._clients
        self._barrier = asyncio.Barrier(racers)

    async def get(self, vault: str, name: str) -> str | None:
        found = await super().get(vault, name)
        assert found is None
        await self._barrier.wait()
        return found


async def test_a_new_version_is_the_one_in_force(rig: Rig, unique: str) -> None:
    await rig.secrets.put_version(rig.vault, unique, "1")
    await rig.secrets.put_version(rig.vault, unique, "2")
    assert await rig.secrets.get(rig.vault, unique) == "2"
    assert await rig.secrets.create(rig.vault, unique, "3") == "2"


async def test_old_versions_can_be_disabled_and_the_newest_stays(rig: Rig, unique: str) -> None:
    await rig.secrets.disable_old(rig.vault, unique)
    for value in ("1", "2", "3"):
        await rig.secrets.put_version(rig.vault, unique, value)
    for _ in range(2):
        await rig.secrets.disable_old(rig.vault, unique)
    assert await readable(rig, unique) == ["3"]
    assert await rig.secrets.get(rig.vault, unique) == "3"
    await rig.secrets.put_version(rig.vault, unique, "4")
    assert await readable(rig, unique) == ["3", "4"]


async def readable(rig: Rig, name: str) -> list[str]:
    """The values that the vault still gives out, by version."""
    if isinstance(rig.secrets, FakeSecrets):
        return rig.secrets.readable(rig.vault, name)
    client = rig.secrets._client(rig.vault)  # pyright: ignore[reportAttributeAccessIssue]
    found: list[str] = []
    async for one in client.list_properties_of_secret_versions(name):
        try:
            found.append((await client.get_secret(name, one.version)).value)
        except HttpResponseError as error:
            found += [] if error.status_code == 403 else [str(error)]
    return sorted(found)


async def test_a_deleted_secret_is_gone_with_its_name_free(rig: Rig, unique: str) -> None:
    assert await rig.secrets.delete(rig.vault, unique)
    await rig.secrets.put_version(rig.vault, unique, "old")
    assert await rig.secrets.delete(rig.vault, unique)
    assert await rig.secrets.get(rig.vault, unique) is None
    assert await rig.secrets.delete(rig.vault, unique)
    assert await rig.secrets.create(rig.vault, unique, "new") == "new"


async def test_a_wrapped_key_is_unwrapped_by_its_versioned_id(rig: Rig) -> None:
    data = bytes(range(32))
    key_id, wrapped = await rig.keys.wrap(rig.vault, KEK, data)
    assert key_id.startswith(f"{rig.vault.rstrip('/')}/keys/{KEK}/")
    assert data not in wrapped
    assert await rig.keys.unwrap(key_id, wrapped) == data


async def test_another_key_or_a_damaged_one_does_not_open_it(rig: Rig) -> None:
    key_id, wrapped = await rig.keys.wrap(rig.vault, KEK, b"k" * 32)
    other_id, _ = await rig.keys.wrap(rig.other, KEK, b"k" * 32)
    with pytest.raises(WrongKeyError):
        await rig.keys.unwrap(other_id, wrapped)
    damaged = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
    with pytest.raises(WrongKeyError):
        await rig.keys.unwrap(key_id, damaged)


async def test_a_key_that_is_not_there_is_named(rig: Rig) -> None:
    with pytest.raises(NotFoundError):
        await rig.keys.wrap(rig.vault, "no-such-key", b"k")
    key_id, wrapped = await rig.keys.wrap(rig.vault, KEK, b"k")
    gone = key_id.rpartition("/")[0] + "/" + "f" * 32
    with pytest.raises(NotFoundError):
        await rig.keys.unwrap(gone, wrapped)


async def test_more_than_the_key_can_wrap_is_invalid(rig: Rig) -> None:
    await rig.keys.wrap(rig.vault, KEK, b"k" * 190)
    with pytest.raises(InvalidError):
        await rig.keys.wrap(rig.vault, KEK, b"k" * 191)


async def test_a_key_id_cannot_send_our_token_to_a_stranger(rig: Rig) -> None:
    _, wrapped = await rig.keys.wrap(rig.vault, KEK, b"k")
    for stranger in (
        "https://elsewhere.example/keys/backup-kek/1",
        f"{rig.vault.rstrip('/')}@elsewhere.example/keys/backup-kek/1",
        "https://elsewhere.example",
    ):
        with pytest.raises(DeniedError):
            await rig.keys.unwrap(stranger, wrapped)
    with pytest.raises(DeniedError):
        await rig.keys.wrap("https://elsewhere.example/", KEK, b"k")


@pytest.mark.stack
async def test_a_wrong_token_is_denied(parts: Parts, unique: str) -> None:
    health = f"http://127.0.0.1:{parts.home.port('key_vault')}/healthz"
    await asyncio.to_thread(parts.start, "key_vault", health=health)
    uri = (await Vaults(parts.home).ensure("kv-a")).uri
    wire = Wire(ca_file=ca_file(parts.home))
    secrets = VaultSecrets(
        wire, credential=StaticCredential("wrong"), ca_file=ca_file(parts.home)
    )
    with pytest.raises(DeniedError):
        await secrets.get(uri, unique)
    await secrets.close()
    await wire.close()


@pytest.mark.stack
async def test_a_vault_whose_certificate_nobody_vouches_for_gets_no_token(
    parts: Parts, unique: str, tmp_path: Path
) -> None:
    health = f"http://127.0.0.1:{parts.home.port('key_vault')}/healthz"
    await asyncio.to_thread(parts.start, "key_vault", health=health)
    uri = (await Vaults(parts.home).ensure("kv-a")).uri
    wire = Wire()
    secrets = VaultSecrets(
        wire, credential=StaticCredential(parts.home.secret("token")), ca_file=tmp_path
    )
    with pytest.raises(TransientError) as failure:
        await secrets.get(uri, unique)
    assert isinstance(failure.value.__cause__, Exception)
    assert isinstance(failure.value.__cause__.__cause__.__cause__, ssl.SSLCertVerificationError)  # pyright: ignore[reportOptionalMemberAccess]
    await secrets.close()
    await wire.close()
