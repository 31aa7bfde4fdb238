"""Backups of folders, day after day, and each of them brought back."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from backups.store.keys import Keys
from backups.store.manifest import authenticate, name_of
from spaces.errors import InvalidError, NotFoundError, RefusedError, WrongKeyError
from tests.backups.local import trees
from tests.backups.local.rig import KEYS, SETTINGS, back, check, run
from tests.fakes.objects import FakeStore

if TYPE_CHECKING:
    from pathlib import Path


def test_everything_a_folder_can_hold_comes_back(tmp_path: Path) -> None:
    store = FakeStore()
    trees.fill(tmp_path / "files", trees.seeded(1))
    result = run(store, tmp_path / "files")
    assert (result.state, result.kind, result.problems) == ("complete", "full", ())
    restored = back(store, tmp_path / "back")
    assert trees.seen(tmp_path / "back") == trees.seen(tmp_path / "files")
    assert (tmp_path / "back.settings").read_bytes() == SETTINGS
    assert restored.files == result.files
    assert restored.state == "complete"


def test_bytes_stored_are_what_the_store_grew_by(tmp_path: Path) -> None:
    store = FakeStore()
    trees.fill(tmp_path / "files", trees.seeded(2))
    for _ in range(2):
        before = sum(map(len, store.objects.values()))
        result = run(store, tmp_path / "files")
        assert result.bytes_stored == sum(map(len, store.objects.values())) - before


def test_an_unchanged_day_stores_next_to_nothing_in_few_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backups.files.walk._TICK_NS", 0)
    store = FakeStore()
    (tmp_path / "files").mkdir()
    for number in range(2000):
        path = tmp_path / "files" / f"f{number:05d}"
        path.write_text(f"file {number}")
        os.utime(path, ns=(1, 1))
    run(store, tmp_path / "files")
    run(store, tmp_path / "files")
    store.calls.clear()
    result = run(store, tmp_path / "files")
    assert result.bytes_stored <= 4096
    assert result.storage_calls <= 8
    assert result.kind == "incremental"
    assert result.bytes_read == len(SETTINGS)


def test_a_day_stores_what_is_new_and_renames_cost_nothing(tmp_path: Path) -> None:
    store, random = FakeStore(), trees.seeded(3)
    trees.fill(tmp_path / "files", random)
    run(store, tmp_path / "files")
    (tmp_path / "files" / "size-4194304").rename(tmp_path / "files" / "renamed")
    (tmp_path / "files" / "size-9000000").rename(tmp_path / "files" / "a dir" / "moved")
    (tmp_path / "files" / "new").write_bytes(random.randbytes(1000))
    result = run(store, tmp_path / "files")
    assert result.bytes_stored < 8000
    back(store, tmp_path / "back")
    assert trees.seen(tmp_path / "back") == trees.seen(tmp_path / "files")


def test_an_insertion_into_a_large_file_stores_little(tmp_path: Path) -> None:
    store, random = FakeStore(), trees.seeded(4)
    (tmp_path / "files").mkdir()
    data = random.randbytes(24_000_000)
    (tmp_path / "files" / "large").write_bytes(data)
    run(store, tmp_path / "files")
    (tmp_path / "files" / "large").write_bytes(data[:9_000_000] + b"new" + data[9_000_000:])
    assert run(store, tmp_path / "files").bytes_stored < 5_000_000
    back(store, tmp_path / "back")
    assert trees.seen(tmp_path / "back") == trees.seen(tmp_path / "files")


def test_a_month_of_days_is_restored_day_by_day(tmp_path: Path) -> None:
    """Weekly bases, released packs and pages that grew: every day is still what it was."""
    store, random = FakeStore(), trees.seeded(5)
    files = tmp_path / "files"
    trees.fill(files, random)
    days: dict[str, dict[bytes, tuple[object, ...]]] = {}
    start = datetime(2026, 11, 1, 2, tzinfo=UTC)
    for day in range(16):
        trees.change(files, random)
        days[run(store, files, at=start + timedelta(days=day)).backup_id] = trees.seen(files)
    headers = [authenticate(store, KEYS, name_of(number))[0] for number in range(1, 17)]
    bases = [header.sequence for header in headers if header.base is None]
    assert bases == [1, 8, 15]
    assert all(header.base.name == name_of(1) for header in headers[1:7] if header.base)
    assert check(store).findings == []
    for backup_id, seen in days.items():
        back(store, tmp_path / "back", at=backup_id)
        assert trees.seen(tmp_path / "back") == seen
        shutil.rmtree(tmp_path / "back")


def test_many_new_files_within_one_page_of_the_base(tmp_path: Path) -> None:
    store = FakeStore()
    files = tmp_path / "files"
    files.mkdir()
    for number in range(1500):
        (files / f"f{number:05d}").write_text(str(number))
    run(store, files)
    for number in range(9000):
        (files / f"f00700-{number:05d}").write_text(str(number))
    (files / "!first").write_text("before all others")
    run(store, files)
    run(store, files)
    back(store, tmp_path / "back")
    assert trees.seen(tmp_path / "back") == trees.seen(files)


def test_a_file_whose_time_was_set_back_is_read_again(tmp_path: Path) -> None:
    store = FakeStore()
    (tmp_path / "files").mkdir()
    path = tmp_path / "files" / "f"
    path.write_text("before")
    os.utime(path, ns=(5, 5))
    run(store, tmp_path / "files")
    path.write_text("after!")
    os.utime(path, ns=(5, 5))
    run(store, tmp_path / "files")
    back(store, tmp_path / "back")
    assert (tmp_path / "back" / "f").read_text() == "after!"


def test_a_file_changed_a_moment_before_is_read_again_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two writes within one tick of the file system's clock leave the same times."""
    monkeypatch.setattr("backups.files.walk._TICK_NS", 10**15)
    store = FakeStore()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "f").write_text("content")
    run(store, tmp_path / "files")
    again = run(store, tmp_path / "files")
    assert again.bytes_read == len(SETTINGS) + len("content")


def test_a_single_path_comes_back_alone(tmp_path: Path) -> None:
    store = FakeStore()
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(6))
    run(store, files)
    back(store, tmp_path / "one", path="a-folder/copy of 9M")
    assert [path.name for path in (tmp_path / "one").rglob("*")] == ["a-folder", "copy of 9M"]
    back(store, tmp_path / "tree", path="a dir")
    wanted = {
        path: seen for path, seen in trees.seen(files).items() if path.startswith(b"/a dir/")
    }
    found = trees.seen(tmp_path / "tree")
    assert {path: found[path] for path in wanted} == wanted
    back(store, tmp_path / "name", path="zz second name")
    assert (tmp_path / "name" / "zz second name").read_bytes() == (
        files / "zz second name"
    ).read_bytes()
    with pytest.raises(NotFoundError):
        back(store, tmp_path / "none", path="no such path")


def test_a_folder_that_is_not_there_makes_the_snapshot_partial(tmp_path: Path) -> None:
    store = FakeStore()
    result = run(store, tmp_path / "gone")
    assert result.state == "partial"
    assert str(tmp_path / "gone") in result.problems[0]


def test_a_partial_snapshot_is_never_the_latest(tmp_path: Path) -> None:
    store = FakeStore()
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(7))
    complete = run(store, files)
    files.rename(tmp_path / "elsewhere")
    partial = run(store, files)
    assert partial.state == "partial"
    assert back(store, tmp_path / "back").backup_id == complete.backup_id
    assert trees.seen(tmp_path / "back") == trees.seen(tmp_path / "elsewhere")
    with pytest.raises(InvalidError):
        run(store, None, settings=None)
    (tmp_path / "elsewhere").rename(files)
    third = run(store, files)
    assert third.state == "complete"
    assert third.bytes_stored < 10_000, "what the complete one had is not stored again"


def test_a_time_box_ends_reading_and_the_next_run_continues(tmp_path: Path) -> None:
    store = FakeStore()
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(8))
    cut = run(store, files, time_box_s=0.0)
    assert cut.state == "partial"
    assert "time box" in cut.problems[0]
    assert run(store, files).state == "complete"
    back(store, tmp_path / "back")
    assert trees.seen(tmp_path / "back") == trees.seen(files)


def test_a_target_that_is_not_empty_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    store = FakeStore()
    trees.fill(tmp_path / "files", trees.seeded(9))
    run(store, tmp_path / "files")
    (tmp_path / "back").mkdir()
    (tmp_path / "back" / "mine").write_text("stays")
    with pytest.raises(RefusedError):
        back(store, tmp_path / "back")
    assert [path.name for path in (tmp_path / "back").iterdir()] == ["mine"]
    assert not (tmp_path / "back.settings").exists()


def test_another_key_is_told_from_damage(tmp_path: Path) -> None:
    store, other = FakeStore(), Keys(b"o" * 32)
    trees.fill(tmp_path / "files", trees.seeded(10))
    run(store, tmp_path / "files")
    before = dict(store.objects)
    for attempt in (
        lambda: run(store, tmp_path / "files", keys=other),
        lambda: back(store, tmp_path / "back", keys=other),
        lambda: check(store, keys=other),
    ):
        with pytest.raises(WrongKeyError):
            attempt()
    assert store.objects == before
    assert not (tmp_path / "back").exists()


def test_expiry_is_decided_by_day_week_and_month(tmp_path: Path) -> None:
    store = FakeStore()
    (tmp_path / "files").mkdir()
    lasts = []
    for day in (1, 2, 9, 10):
        at = datetime(2026, 12, day, 2, tzinfo=UTC)
        result = run(store, tmp_path / "files", at=at)
        lasts.append((datetime.fromisoformat(result.expires_at) - at).days)
    assert lasts == [365, 30, 84, 30]
    base = authenticate(store, KEYS, name_of(2))[0].base
    assert base is not None
    assert base.keep_until >= authenticate(store, KEYS, name_of(2))[0].expires_at


def test_no_name_and_no_content_is_visible_in_the_store(tmp_path: Path) -> None:
    store = FakeStore()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "payroll-2026.txt").write_text("the salaries of everybody\n" * 99)
    run(store, tmp_path / "files")
    everything = b"".join(store.objects.values())
    for secret in (b"payroll", b"salaries", b"acme"):
        assert secret not in everything


def test_a_writer_creates_and_never_replaces_or_removes(tmp_path: Path) -> None:
    store = FakeStore()
    trees.fill(tmp_path / "files", trees.seeded(11))
    run(store, tmp_path / "files")
    before = dict(store.objects)
    trees.change(tmp_path / "files", trees.seeded(11))
    run(store, tmp_path / "files")
    assert {name: store.objects[name] for name in before} == before
    assert set(store.calls) <= {"create", "list", "open", "read", "write_lock", "remove_lock"}
