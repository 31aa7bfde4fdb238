"""Objects of every kind flipped, cut, exchanged, removed, replaced by older ones: all are found."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from backups.store.keys import Keys
from spaces.errors import DamagedError, KpaxError
from tests.backups.local import trees
from tests.backups.local.rig import back, check, run
from tests.fakes.objects import FakeStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

WAYS = ("flip", "cut", "lengthen", "exchange", "remove", "replay", "empty")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[FakeStore, dict[str, object]]:
    """Three days and a scrub report; a snapshot's tree by its id."""
    store, random = FakeStore(), trees.seeded(20)
    files = tmp_path_factory.mktemp("damage") / "files"
    trees.fill(files, random)
    days: dict[str, object] = {}
    for _ in range(3):
        trees.change(files, random)
        days[run(store, files).backup_id] = trees.seen(files)
    assert check(store).findings == []
    store.objects["lock"] = b"left behind"
    return store, days


def damage(store: FakeStore, name: str, way: str, random: Random) -> bool:
    """Do it; false where it would change nothing."""
    before = store.objects[name]
    same_kind = [other for other in store.objects if other[:2] == name[:2] and other != name]
    match way:
        case "flip":
            at = random.randrange(len(before))
            changed = bytearray(before)
            changed[at] ^= 1 << random.randrange(8)
            store.objects[name] = bytes(changed)
        case "cut":
            store.objects[name] = before[: random.randrange(len(before))]
        case "lengthen":
            store.objects[name] = before + b"\0"
        case "empty":
            store.objects[name] = b""
        case "remove":
            del store.objects[name]
        case "exchange" | "replay" if same_kind:
            other = random.choice(same_kind)
            store.objects[name] = store.objects[other]
            if way == "exchange":
                store.objects[other] = before
        case _:
            return False
    return True


def copy_of(store: FakeStore) -> FakeStore:
    other = FakeStore()
    other.objects = dict(store.objects)
    return other


def found(attempt: Callable[[], object]) -> set[str]:
    """Objects that are named as damaged."""
    try:
        result = attempt()
    except DamagedError as error:
        return {str(error.members["object"])}
    named = getattr(result, "findings", None) or getattr(result, "damage", ())
    return {one["object"] if isinstance(one, dict) else one.object for one in named}


@pytest.mark.parametrize("kind", ["k/", "p/", "s/"])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_restore_needs_is_missed_by_scrub_and_restore(
    good: tuple[FakeStore, dict[str, object]], tmp_path: Path, kind: str, way: str
) -> None:
    store, days = good
    random = trees.seeded(WAYS.index(way))
    for name in [name for name in store.objects if name.startswith(kind)]:
        broken = copy_of(store)
        if not damage(broken, name, way, random):
            continue
        assert name in found(lambda broken=broken: check(broken)), (name, way)
        seen_by_restore: set[str] = set()
        for backup_id, tree in days.items():
            target = tmp_path / "back"
            try:
                named = found(lambda b=broken, i=backup_id, t=target: back(b, t, at=i))
            except KpaxError:
                named = {"refused"}
            if not named:
                assert trees.seen(target) == tree
            seen_by_restore |= named
            shutil.rmtree(target, ignore_errors=True)
        assert seen_by_restore, (name, way)


@pytest.mark.parametrize("way", WAYS)
def test_what_no_restore_needs_stops_none(
    good: tuple[FakeStore, dict[str, object]], tmp_path: Path, way: str
) -> None:
    store, days = good
    random = trees.seeded(30 + WAYS.index(way))
    for name in [name for name in store.objects if name.startswith(("j/", "v/", "lock"))]:
        broken = copy_of(store)
        if not damage(broken, name, way, random):
            continue
        if name != "lock" and way != "remove":
            assert name in found(lambda broken=broken: check(broken))
        backup_id = back(broken, tmp_path / "back").backup_id
        assert trees.seen(tmp_path / "back") == days[backup_id]
        shutil.rmtree(tmp_path / "back")
        trees.fill(tmp_path / "again", random)
        assert run(broken, tmp_path / "again").state == "complete"
        shutil.rmtree(tmp_path / "again")


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_a_thousand_damages_are_all_found(
    good: tuple[FakeStore, dict[str, object]], tmp_path: Path, seed: int
) -> None:
    store, days = good
    random = trees.seeded(1000 + seed)
    names = [name for name in store.objects if name[:2] in {"k/", "p/", "s/"}]
    for _ in range(50):
        broken, name, way = copy_of(store), random.choice(names), random.choice(WAYS)
        if not damage(broken, name, way, random):
            continue
        assert name in found(lambda broken=broken: check(broken)), (name, way)
        named = found(lambda broken=broken: back(broken, tmp_path / "back"))
        if not named:
            assert trees.seen(tmp_path / "back") == list(days.values())[-1]
        shutil.rmtree(tmp_path / "back", ignore_errors=True)


def test_a_removed_newest_manifest_is_no_older_latest(
    good: tuple[FakeStore, dict[str, object]], tmp_path: Path
) -> None:
    store = copy_of(good[0])
    del store.objects["s/00000003"]
    with pytest.raises(DamagedError, match="s/00000003"):
        back(store, tmp_path / "back")
    assert not (tmp_path / "back").exists()
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(1))
    assert run(store, files).backup_id.startswith("00000004-"), "its number is not used again"


def test_a_damaged_latest_is_an_error_and_never_an_older_one(
    good: tuple[FakeStore, dict[str, object]], tmp_path: Path
) -> None:
    store = copy_of(good[0])
    store.objects["s/00000003"] = store.objects["s/00000003"][:-1]
    with pytest.raises(DamagedError, match="s/00000003"):
        back(store, tmp_path / "back")


def test_a_manifest_of_a_fork_is_not_taken_for_the_stores_own(tmp_path: Path) -> None:
    """Same key, same number, authentic: only successor and head know it is another."""
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(7))
    store = FakeStore()
    run(store, files)
    fork = copy_of(store)
    run(store, files)
    run(fork, files)
    store.objects["s/00000002"] = fork.objects["s/00000002"]
    assert "s/00000002" in found(lambda: check(store, full=False))
    assert found(lambda: back(store, tmp_path / "back")) == {"s/00000002"}
    again = copy_of(fork)
    run(again, files)
    again.objects["s/00000002"] = good_of(fork, files)
    assert "s/00000002" in found(lambda: check(again, full=False))


def good_of(fork: FakeStore, files: Path) -> bytes:
    """Another authentic second manifest."""
    rival = copy_of(fork)
    for name in [name for name in rival.objects if "00000002" in name]:
        del rival.objects[name]
    run(rival, files)
    return rival.objects["s/00000002"]


def test_no_bit_of_a_manifest_changes_unseen_by_the_structural_check(tmp_path: Path) -> None:
    store = FakeStore()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "f").write_text("x")
    run(store, tmp_path / "files")
    whole = store.objects["s/00000001"]
    for at in range(0, len(whole), 5):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        store.objects["s/00000001"] = bytes(changed)
        assert found(lambda: check(store, full=False)) == {"s/00000001"}, at


def test_a_finding_names_snapshots_and_what_is_affected(tmp_path: Path) -> None:
    store = FakeStore()
    files = tmp_path / "files"
    files.mkdir()
    (files / "letter").write_bytes(trees.seeded(2).randbytes(700_000))
    first = run(store, files)
    (files / "second").write_bytes(trees.seeded(3).randbytes(700_000))
    second = run(store, files)
    pack = next(name for name in store.objects if name.startswith("p/"))
    changed = bytearray(store.objects[pack])
    changed[1000] ^= 1
    store.objects[pack] = bytes(changed)
    (finding,) = check(store).findings
    assert finding.object == pack
    assert finding.affects == ["file letter"]
    assert finding.snapshots == [first.backup_id, second.backup_id]
    with pytest.raises(DamagedError, match=f"{pack}.*{second.backup_id}.*letter"):
        back(store, tmp_path / "back")


def test_skipping_damage_restores_the_rest_and_names_what_is_missing(tmp_path: Path) -> None:
    store = FakeStore()
    files = tmp_path / "files"
    files.mkdir()
    (files / "letter").write_bytes(trees.seeded(2).randbytes(700_000))
    run(store, files)
    (files / "second").write_bytes(trees.seeded(3).randbytes(700_000))
    run(store, files)
    del store.objects[next(name for name in store.objects if name.startswith("p/"))]
    with pytest.raises(DamagedError):
        back(store, tmp_path / "back")
    assert not (tmp_path / "back").exists(), (
        "a missing pack is found before anything is written"
    )
    restored = back(store, tmp_path / "back", skip_damaged=True)
    assert restored.state == "partial"
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["second"]
    assert any("letter" in str(one["affects"]) for one in restored.damage)


def test_a_backup_heals_a_store_that_lost_a_pack(tmp_path: Path) -> None:
    store = FakeStore()
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(5))
    run(store, files)
    del store.objects[next(name for name in store.objects if name.startswith("p/"))]
    healed = run(store, files)
    assert (healed.state, healed.kind) == ("complete", "full")
    assert back(store, tmp_path / "back").damage == []
    assert trees.seen(tmp_path / "back") == trees.seen(files)


def test_objects_of_another_store_are_not_taken(tmp_path: Path) -> None:
    """Same names, another space: its manifest and packs do not open here."""
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(6))
    store, other = FakeStore(), FakeStore()
    run(store, files)
    run(other, files, keys=Keys(b"o" * 32))
    store.objects["s/00000001"] = other.objects["s/00000001"]
    assert "s/00000001" in found(lambda: check(store))
