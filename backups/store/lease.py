"""A lease on the store, so that two runners seldom do the same work.

Nothing depends on it: names are create-only and each manifest's number is taken once. The lease
says who holds it. A holder of this machine is looked up: if its process is gone, the lease is free
at once. One of another machine is free when it was not renewed for a minute.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from spaces.errors import KpaxError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from backups.store.objects import ObjectStore

TERM_S = 60.0
_RENEWAL_S = 20.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """What `lock` says: which run, of which process of which boot of which machine, seen when."""

    run: str
    boot_id: str
    pid: int
    started: int
    renewed_at: str


class Lease:
    """Held from `with` to its end; renewed by a thread meanwhile.

    Raises `RefusedError` where a living runner holds it.
    """

    def __init__(
        self,
        store: ObjectStore,
        run: str,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._run = run
        self._now = now
        self._tag: str | None = None
        self._ended = threading.Event()
        self._renewer = threading.Thread(target=self._renew, name="lease", daemon=True)

    def __enter__(self) -> Self:
        self._tag = self._store.write_lock(self._said(), tag=None)
        while self._tag is None:
            found = self._store.read_lock()
            if found is not None and (holder := _holder(found[0])) is not None:
                self._refuse_if_alive(holder)
            self._tag = self._store.write_lock(self._said(), tag=found[1] if found else None)
        self._renewer.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._renewer.join()
        try:
            if self._tag is not None:
                self._store.remove_lock(tag=self._tag)
        except KpaxError:
            if error is None:
                raise

    def _refuse_if_alive(self, holder: Holder) -> None:
        if holder.boot_id == _boot_id():
            if _started(holder.pid) != holder.started:
                return
            where = f"process {holder.pid} of this machine"
        else:
            age = self._now() - datetime.fromisoformat(holder.renewed_at)
            if age.total_seconds() > TERM_S:
                return
            where = f"process {holder.pid} of another machine"
        raise RefusedError(
            f"another backup of this store is running: run {holder.run}, {where}",
            remedy="Wait for its end; a runner that was killed is noticed by itself.",
        )

    def _renew(self) -> None:
        due = time.monotonic() + _RENEWAL_S
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due += _RENEWAL_S
            if self._tag is None:
                return
            try:
                self._tag = self._store.write_lock(self._said(), tag=self._tag)
            except KpaxError:
                continue  # the store is away for a moment: the run itself will notice

    def _said(self) -> bytes:
        return msgspec.json.encode(
            Holder(
                run=self._run,
                boot_id=_boot_id(),
                pid=os.getpid(),
                started=_started(os.getpid()) or 0,
                renewed_at=self._now().isoformat(),
            )
        )


def _holder(data: bytes) -> Holder | None:
    """Who holds the lease; None where the object is torn or not ours: then nobody does."""
    try:
        holder = msgspec.json.decode(data, type=Holder)
        datetime.fromisoformat(holder.renewed_at)
    except (msgspec.MsgspecError, ValueError):
        return None
    return holder if datetime.fromisoformat(holder.renewed_at).tzinfo is not None else None


def _boot_id() -> str:
    return _BOOT_ID.read_text().strip()


def _started(pid: int) -> int | None:
    """When a process started, in ticks since boot; None where it does not live."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, *rest = said.rsplit(")", 1)[1].split()
    return None if state in {"Z", "X"} else int(rest[18])
