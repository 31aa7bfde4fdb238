"""A run that dies at any writing call leaves nothing half, and the next one goes on from there."""

from __future__ import annotations

import contextlib
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from spaces.errors import RefusedError, UnreachableError
from tests.backups.local import trees
from tests.backups.local.rig import back, check, run
from tests.fakes.objects import FakeStore, Stopped

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def one_pack_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small packs and a journal for each, so that a small tree has many points to die at."""
    monkeypatch.setattr("backups.store.packs.PACK_LIMIT", 600_000)
    monkeypatch.setattr("backups.store.journal.EVERY_BYTES", 600_000)
    monkeypatch.setattr("backups.files.contents.FRAME", 150_000)
    monkeypatch.setattr("backups.files.contents._SHORTEST", 65_536)
    monkeypatch.setattr("backups.files.contents.SMALL", 60_000)


@pytest.mark.usefixtures("one_pack_at_a_time")
@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
def test_death_at_every_write(tmp_path: Path, *, is_after: bool) -> None:
    files = tmp_path / "files"
    files.mkdir()
    random = trees.seeded(1)
    for number in range(60):
        (files / f"f{number}").write_bytes(random.randbytes(50_000))
    days = [random.randbytes(50_000), random.randbytes(700_000)]

    def live(store: FakeStore, die_at: int | None) -> None:
        store.die_at = die_at
        for day in days:
            (files / "f7").write_bytes(day)
            try:
                run(store, files)
            except Stopped:
                store.revive()
                assert check(store).findings == []
                assert run(store, files).state == "complete"
        store.die_at = None

    clean = FakeStore()
    live(clean, None)
    assert len(clean.writes) > 20
    for die_at in range(1, len(clean.writes) + 1):
        store = FakeStore()
        store.die_after_effect = is_after
        live(store, die_at)
        back(store, tmp_path / "back")
        assert trees.seen(tmp_path / "back") == trees.seen(files)
        assert check(store).findings == []
        shutil.rmtree(tmp_path / "back")


@pytest.mark.usefixtures("one_pack_at_a_time")
def test_what_a_dead_run_had_stored_is_not_stored_again(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    random = trees.seeded(2)
    for number in range(60):
        (files / f"f{number}").write_bytes(random.randbytes(50_000))
    clean = FakeStore()
    whole = run(clean, files).bytes_stored
    store = FakeStore()
    store.die_at = len(clean.writes) - 3  # before the manifest
    with pytest.raises(Stopped):
        run(store, files)
    store.revive()
    rest = run(store, files)
    assert rest.bytes_stored < whole / 3
    back(store, tmp_path / "back")
    assert trees.seen(tmp_path / "back") == trees.seen(files)


def test_a_store_that_goes_away_leaves_nothing_listed(tmp_path: Path) -> None:
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(3))
    store = FakeStore()

    class _Away(FakeStore):
        def create(self, name: str, data: object) -> bool:
            if name.startswith("p/"):
                self.is_away = True
            return super().create(name, data)  # pyright: ignore[reportArgumentType]

    store = _Away()
    with pytest.raises(UnreachableError):
        run(store, files)
    store.is_away = False
    assert [name for name in store.objects if name.startswith("s/")] == []


def test_two_runners_at_once_do_not_spoil_each_other(tmp_path: Path) -> None:
    """The second is refused by the lease; without one, it takes the next number."""
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(4))
    for has_lease in (True, False):
        store = FakeStore()
        if not has_lease:
            store.write_lock = lambda _data, *, tag: "any"
            store.remove_lock = lambda *, tag: True
        done: list[str] = []

        def one(store: FakeStore = store, done: list[str] = done) -> None:
            with contextlib.suppress(RefusedError):
                done.append(run(store, files).backup_id)

        threads = [threading.Thread(target=one) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(done) >= (1 if has_lease else 3)
        assert check(store).findings == []
        for backup_id in done:
            back(store, tmp_path / "back", at=backup_id)
            assert trees.seen(tmp_path / "back") == trees.seen(files)
            shutil.rmtree(tmp_path / "back")


@pytest.mark.usefixtures("one_pack_at_a_time")
def test_a_number_that_is_taken_meanwhile_is_left_to_its_owner(tmp_path: Path) -> None:
    """Another runner publishes between our reading of the store and our manifest."""
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(5))
    store = FakeStore()
    run(store, files)
    create = store.create
    taken: list[str] = []

    def slow(name: str, data: object) -> bool:
        if name == "s/00000002" and not taken:
            taken.append(name)
            rival = FakeStore()
            rival.objects = store.objects
            taken.append(run(rival, files).backup_id)
        return create(name, data)  # pyright: ignore[reportArgumentType]

    store.create = slow  # pyright: ignore[reportAttributeAccessIssue]
    held = store.objects.pop("lock", None)
    store.write_lock = lambda _data, *, tag: "any"
    store.remove_lock = lambda *, tag: True
    assert held is None
    assert run(store, files).backup_id.startswith("00000003-")
    assert taken[1].startswith("00000002-")
    assert check(store).findings == []
    for backup_id in (taken[1], "latest"):
        back(store, tmp_path / "back", at=backup_id)
        assert trees.seen(tmp_path / "back") == trees.seen(files)
        shutil.rmtree(tmp_path / "back")
