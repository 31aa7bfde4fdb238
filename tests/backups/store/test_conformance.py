"""One suite for every store: the fake, a folder, a container of a real Azurite."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from backups.store.container import ContainerStore
from backups.store.folder import FolderStore
from spaces.errors import NotFoundError, UnreachableError
from tests.fakes.objects import FakeStore

if TYPE_CHECKING:
    from pathlib import Path

    from backups.store.objects import ObjectStore

BIG = bytes(range(256)) * 4096 * 5  # more than a window of the container's


@pytest.fixture(params=["fake", "folder", pytest.param("azurite", marks=pytest.mark.stack)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "fake":
        return FakeStore()
    if request.param == "folder":
        return FolderStore(tmp_path / "store")
    accounts = request.getfixturevalue("azurite")
    account = asyncio.run(accounts.ensure(f"s{uuid4().hex[:20]}"))
    return ContainerStore.at(
        f"{account.blob_endpoint}/backups", {"AZURE_STORAGE_KEY": account.key}
    )


def test_a_store_that_nobody_made_is_empty(store: ObjectStore) -> None:
    assert list(store.list()) == []
    assert store.read_lock() is None
    with pytest.raises(NotFoundError):
        store.open("s/00000001")
    with pytest.raises(NotFoundError):
        store.read("p/a", 0, 10)


def test_what_was_created_is_read_back_whole_and_in_parts(store: ObjectStore) -> None:
    assert store.create("p/a-00001", BIG)
    with store.open("p/a-00001") as file:
        assert file.read() == BIG
        file.seek(1000)
        assert file.read(5) == BIG[1000:1005]
    assert store.read("p/a-00001", 0, 40) == BIG[:40]
    assert store.read("p/a-00001", 4_500_000, 40) == BIG[4_500_000:4_500_040]
    assert store.read("p/a-00001", len(BIG) - 3, 40) == BIG[-3:]
    assert store.read("p/a-00001", len(BIG) + 3, 40) == b""


def test_a_spool_is_written_anywhere_and_stored_whole(store: ObjectStore) -> None:
    spool = store.spool()
    spool.write_at(5, b"world")
    spool.write_at(0, b"hello")
    assert b"".join(spool.read()) == b"helloworld"
    assert store.create("p/b-00001", spool)
    spool.close()
    assert store.read("p/b-00001", 0, 100) == b"helloworld"


def test_a_name_is_taken_once(store: ObjectStore) -> None:
    assert store.create("s/00000001", b"first")
    assert not store.create("s/00000001", b"other")
    assert not store.create("s/00000001", b"other longer")
    assert store.read("s/00000001", 0, 100) == b"first"


def test_the_same_bytes_again_count_as_created(store: ObjectStore) -> None:
    """An answer that was lost: the second try finds its own object."""
    assert store.create("p/c-00001", b"bytes")
    assert store.create("p/c-00001", b"bytes")


def test_a_listing_is_sorted_and_by_prefix(store: ObjectStore) -> None:
    for name in ("p/b-00001", "p/a-00002", "j/00000001-a/head", "s/00000001"):
        store.create(name, name.encode())
    assert [stat.name for stat in store.list()] == [
        "j/00000001-a/head",
        "p/a-00002",
        "p/b-00001",
        "s/00000001",
    ]
    assert [(stat.name, stat.size) for stat in store.list("p/a")] == [("p/a-00002", 9)]


def test_the_lock_changes_only_from_the_version_its_writer_saw(store: ObjectStore) -> None:
    first = store.write_lock(b"one", tag=None)
    assert first is not None
    assert store.write_lock(b"two", tag=None) is None
    assert store.read_lock() == (b"one", first)
    second = store.write_lock(b"longer two", tag=first)
    assert second is not None
    assert store.write_lock(b"three", tag=first) is None
    assert not store.remove_lock(tag=first)
    assert store.remove_lock(tag=second)
    assert store.read_lock() is None
    assert store.write_lock(b"four", tag=second) is None
    assert store.write_lock(b"four", tag=None) is not None


def test_of_many_writers_one_gets_the_name(store: ObjectStore) -> None:
    store.create("k/check", b"the store is there")
    won: list[int] = []

    def write(number: int) -> None:
        if store.create("s/00000001", b"writer %d" % number):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("s/00000001", 0, 100) == b"writer %d" % won[0]


def test_of_many_writers_one_gets_the_lock(store: ObjectStore) -> None:
    store.create("k/check", b"the store is there")
    won: list[str] = []

    def write(number: int) -> None:
        if tag := store.write_lock(b"writer %d" % number, tag=None):
            won.append(tag)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_calls_are_counted(store: ObjectStore) -> None:
    store.create("k/check", b"the store is there")
    store.calls.clear()
    store.create("s/00000001", b"x")
    list(store.list())
    store.open("s/00000001").close()
    assert store.calls.total() == 3


def test_a_container_that_does_not_answer_is_unreachable() -> None:
    store = ContainerStore.at(
        "http://127.0.0.1:9/account/container", {"AZURE_STORAGE_KEY": "bm90IGEga2V5"}
    )
    store._client._config.retry_policy.total_retries = 0
    with pytest.raises(UnreachableError):
        list(store.list())


def test_a_folder_that_cannot_be_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UnreachableError):
        FolderStore(tmp_path / "file").create("s/00000001", b"x")


def test_a_folder_without_unnamed_files_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems know no O_TMPFILE: then a hidden name is used, and goes."""
    monkeypatch.setattr("backups.store.folder.os.O_TMPFILE", 0)
    store = FolderStore(tmp_path)
    assert store.create("p/a-00001", BIG)
    assert not store.create("p/a-00001", b"other")
    assert store.read("p/a-00001", 0, 10) == BIG[:10]
    assert [path.name for path in tmp_path.rglob(".*")] == []
