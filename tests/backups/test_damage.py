"""Whatever somebody changes in a backup container is found, and the object is named."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from backups import keyring
from backups.engine import Captured, Files, Label
from spaces.errors import ConflictError, DamagedError, NotFoundError, WrongKeyError
from spaces.model import BackupId
from tests.backups.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes import FakeBlobs

NAMES = ("k/0001", "-database", "-files-00000", "-contents", "s/bkp-")


@dataclass(frozen=True, slots=True)
class Stored:
    """A finished backup in a world, and ways to read it."""

    world: World
    backup_id: BackupId

    @property
    def container(self) -> str:
        return self.world.first.space_id

    @property
    def blobs(self) -> FakeBlobs:
        return self.world.vaulted

    async def name_of(self, part: str) -> str:
        (name,) = [name for name in await self.world.stored() if part in name]
        return name

    async def verify(self) -> None:
        """What the step `verify` does with the engine."""
        world = self.world
        engine, store = (
            world.places.engine(world.bare),
            world.places.store(world.bare, world.first),
        )
        manifest = await engine.find(store, self.backup_id)
        await engine.look(store, manifest)
        scratch = await world.places.base(world.bare, world.first, "verify_9")
        await world.databases.drop_database(scratch.server, scratch.database)
        await engine.verify(store, manifest, scratch)


@pytest.fixture
async def stored(world: World) -> Stored:
    """One backup, verified a moment ago."""
    await world.back_up()
    await world.settle()
    (row,) = await world.rows()
    kept = Stored(world, BackupId(row.backup_id))
    await kept.verify()
    return kept


@pytest.mark.parametrize("part", NAMES)
async def test_a_flipped_bit_anywhere_is_found(stored: Stored, part: str) -> None:
    name = await stored.name_of(part)
    good = await stored.blobs.read(stored.container, name)
    chance = random.Random(part)  # noqa: S311 — which bits a test flips is no secret
    places = {0, 1, 7, 8, 39, 40, len(good) - 1, *chance.sample(range(len(good)), 60)}
    for at in sorted(place for place in places if place < len(good)):
        bad = bytearray(good)
        bad[at] ^= 1 << chance.randrange(8)
        stored.blobs.put(stored.container, name, bytes(bad))
        with pytest.raises(DamagedError) as found:
            await stored.verify()
        assert found.value.members["object"] == name, at
        assert name in found.value.what
    stored.blobs.put(stored.container, name, good)
    await stored.verify()


@pytest.mark.parametrize("part", NAMES)
@pytest.mark.parametrize(
    "harm",
    [
        lambda good: good[:-1],
        lambda good: good[: len(good) // 2],
        lambda good: b"",
        lambda good: good + b"\x00",
        lambda good: good + good,
        lambda good: bytes(len(good)),
        lambda good: good[::-1],
    ],
    ids=["cut", "halved", "emptied", "longer", "doubled", "zeroed", "reversed"],
)
async def test_other_bytes_under_a_name_are_found(
    stored: Stored, part: str, harm: Callable[[bytes], bytes]
) -> None:
    name = await stored.name_of(part)
    stored.blobs.put(
        stored.container, name, harm(await stored.blobs.read(stored.container, name))
    )
    with pytest.raises(DamagedError) as found:
        await stored.verify()
    assert found.value.members["object"] == name


@pytest.mark.parametrize("part", NAMES[:-1])
async def test_a_missing_object_is_found(stored: Stored, part: str) -> None:
    name = await stored.name_of(part)
    await stored.blobs.delete(stored.container, name)
    with pytest.raises(DamagedError) as found:
        await stored.verify()
    assert found.value.members["object"] == name


async def test_damage_is_found_before_a_byte_is_loaded(stored: Stored) -> None:
    name = await stored.name_of("-database")
    size = len(await stored.blobs.read(stored.container, name))
    before = stored.world.data.loads
    stored.blobs.flip(stored.container, name, size - 1)
    with pytest.raises(DamagedError, match="size or hash"):
        await stored.verify()
    assert stored.world.data.loads == before


async def test_swapped_objects_are_found(stored: Stored) -> None:
    one, other = await stored.name_of("-database"), await stored.name_of("-contents")
    objects = await stored.world.stored()
    stored.blobs.put(stored.container, one, objects[other])
    stored.blobs.put(stored.container, other, objects[one])
    with pytest.raises(DamagedError):
        await stored.verify()


async def test_an_older_backup_under_a_newer_name_is_found(stored: Stored) -> None:
    world = stored.world
    world.clock.advance(days=1)
    await world.back_up("k-2")
    await world.settle()
    older, newer = [row.backup_id for row in await world.rows()]
    objects = await world.stored()
    stored.blobs.put(stored.container, f"s/{newer}", objects[f"s/{older}"])
    with pytest.raises(DamagedError, match=f"s/{newer}"):
        await Stored(world, BackupId(newer)).verify()


async def test_another_spaces_key_and_objects_do_not_open(stored: Stored) -> None:
    """All of one space's container copied over another's opens nothing there."""
    other = await World(space_id="s-2222222222222222", name="other").open()
    for name, data in (await stored.world.stored()).items():
        other.vaulted._containers.setdefault(other.first.space_id, {})
        other.vaulted.put(other.first.space_id, name, data)
    other.bare.keys.__dict__.update(stored.world.bare.keys.__dict__)
    with pytest.raises(DamagedError, match="another space"):
        await Stored(other, stored.backup_id).verify()


async def test_another_regional_key_is_a_wrong_key_not_damage(stored: Stored) -> None:
    name = keyring.KEY_NAME
    raw = await stored.blobs.read(stored.container, name)
    told = msgspec.json.decode(raw, type=keyring._Wrapped)
    moved = msgspec.structs.replace(
        told, key_id=told.key_id.replace("kv-kx-france", "kv-kx-uk"), sha256=""
    )
    moved = msgspec.structs.replace(moved, sha256=moved.sum())
    stored.blobs.put(stored.container, name, msgspec.json.encode(moved))
    with pytest.raises(WrongKeyError):
        await stored.verify()


async def test_a_lost_key_is_never_replaced_while_backups_need_it(stored: Stored) -> None:
    await stored.blobs.delete(stored.container, keyring.KEY_NAME)
    world = stored.world
    with pytest.raises(DamagedError, match="missing, and backups need it"):
        await keyring.ensured(world.bare.keys, world.places.store(world.bare, world.first))


async def test_two_runs_at_once_agree_on_one_key(world: World) -> None:
    store = world.places.store(world.bare, world.first)
    first = await keyring.ensured(world.bare.keys, store)

    class Blind:
        """Sees no key, as a run does that looked a moment before the other one wrote."""

        def __getattr__(self, name: str) -> object:
            return getattr(store.blobs, name)

        async def info(self, *_: object) -> None:
            return None

    blind: Any = store.__class__(
        space_id=store.space_id,
        blobs=Blind(),  # pyright: ignore[reportArgumentType]
        container=store.container,
        vault=store.vault,
    )
    assert await keyring.ensured(world.bare.keys, blind) == first


async def test_a_rotated_regional_key_opens_what_the_old_one_wrapped(stored: Stored) -> None:
    keys: Any = stored.world.bare.keys
    keys.rotate("https://kv-kx-france.vault.azure.net/", "backup-kek")
    await stored.verify()


async def test_a_manifest_is_written_once(stored: Stored) -> None:
    """Another try with the same contents finds it; other contents are refused."""
    world = stored.world
    engine, store = world.places.engine(world.bare), world.places.store(world.bare, world.first)
    there = await engine.find(store, stored.backup_id)
    label = Label(
        space_id=world.first.space_id,
        backup_id=stored.backup_id,
        operation_id=there.operation_id,
        cluster=there.cluster,
        azure_region=there.azure_region,
        backup_region=there.backup_region,
        started_at=there.started_at,
    )
    same = Captured(contents=there.contents, completed_at=there.completed_at)
    assert await engine.publish(store, label, same, expires_at=there.started_at) == there
    base = await world.places.base(world.bare, world.first, "app")
    files = Files(blobs=await world.files(""), container="attachments")
    other = await engine.backup(store, base, files, label, {})
    with pytest.raises(ConflictError):
        await engine.publish(store, label, other, expires_at=there.expires_at)
    assert await engine.find(store, stored.backup_id) == there


async def test_an_unknown_backup_is_not_damage(stored: Stored) -> None:
    with pytest.raises(NotFoundError):
        await Stored(stored.world, BackupId("bkp-999999-20261123T100000Z")).verify()


async def test_nothing_of_the_customers_can_be_read_in_the_container(stored: Stored) -> None:
    words = (b"Pumpe", b"Sensor", b"devices", b"readings", b"a contract", b"1.pdf", b"acme")
    for name, data in (await stored.world.stored()).items():
        for word in words:
            assert word not in data, name
            assert word not in name.encode()


async def test_no_password_is_kept_in_a_backup(stored: Stored) -> None:
    told = await stored.world.places.told(stored.world.bare, stored.world.first)
    assert told["database"] == {
        "host": told["database"]["host"],  # type: ignore[index]
        "port": 5432,
        "name": "app",
        "user": "kpax_app",
    }
    assert told["storage"] == {"container": "attachments"}
