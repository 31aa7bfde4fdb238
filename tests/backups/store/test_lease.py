"""The lease: a living runner is respected, a dead one of this machine taken over at once."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest

from backups.store.folder import FolderStore
from backups.store.lease import Holder, Lease
from spaces.errors import RefusedError
from tests.fakes.objects import FakeStore

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def held(store: FakeStore, **changed: object) -> None:
    """Let somebody else hold the lease."""
    with Lease(store, "mine"):
        holder = msgspec.json.decode(store.objects["lock"], type=Holder)
    holder = msgspec.structs.replace(holder, run="other", **changed)
    store.objects["lock"] = msgspec.json.encode(holder)


def test_it_is_gone_when_the_run_is_over() -> None:
    store = FakeStore()
    with Lease(store, "one"):
        assert b"one" in store.objects["lock"]
    assert "lock" not in store.objects
    with Lease(store, "two"):
        assert b"two" in store.objects["lock"]


def test_a_living_runner_of_this_machine_is_respected_however_old_its_word() -> None:
    store = FakeStore()
    held(store, renewed_at="2020-01-01T00:00:00+00:00")
    with pytest.raises(RefusedError, match=f"process {os.getpid()} of this machine"):
        Lease(store, "mine").__enter__()
    assert b"other" in store.objects["lock"]


def test_a_dead_runner_of_this_machine_is_taken_over_at_once() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    store = FakeStore()
    held(store, pid=gone.pid, renewed_at=datetime.now(UTC).isoformat())
    with Lease(store, "mine"):
        assert b"mine" in store.objects["lock"]


def test_another_process_that_got_the_same_number_is_not_the_runner() -> None:
    store = FakeStore()
    held(store, started=1)
    with Lease(store, "mine"):
        pass


@pytest.mark.parametrize(("age_s", "is_free"), [(5, False), (59, False), (61, True)])
def test_a_runner_of_another_machine_has_a_minute(age_s: int, *, is_free: bool) -> None:
    store = FakeStore()
    held(store, boot_id="elsewhere", renewed_at=(NOW - timedelta(seconds=age_s)).isoformat())
    lease = Lease(store, "mine", now=lambda: NOW)
    if is_free:
        with lease:
            pass
    else:
        with pytest.raises(RefusedError, match="another machine"):
            lease.__enter__()


@pytest.mark.parametrize("torn", [b"", b"{", b"\xff\xfe", b"[]", b'{"run":"x"}'])
def test_what_is_no_lease_holds_nobody_up(torn: bytes, tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    store.create("k/check", b"x")
    (tmp_path / "lock").write_bytes(torn)
    with Lease(store, "mine"):
        assert b"mine" in (tmp_path / "lock").read_bytes()
    assert not (tmp_path / "lock").exists()


def test_a_lease_that_was_taken_over_is_not_removed_by_its_old_holder() -> None:
    store = FakeStore()
    with Lease(store, "mine"):
        store.objects["lock"] = b"somebody else's"
    assert store.objects["lock"] == b"somebody else's"


def test_it_is_renewed_while_a_run_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backups.store.lease._RENEWAL_S", 0.001)
    store = FakeStore()
    with Lease(store, "mine"):
        first = store.objects["lock"]
        while store.objects["lock"] == first:
            pass
