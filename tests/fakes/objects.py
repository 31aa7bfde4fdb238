"""A store of sealed objects in memory: create-only, with a stop before or after any call."""

from __future__ import annotations

import hashlib
import io
import threading
from collections import Counter
from typing import TYPE_CHECKING, BinaryIO

from backups.store.objects import LOCK, Stat
from spaces.errors import NotFoundError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backups.store.objects import Spool


class Stopped(BaseException):
    """The process died here. Not an `Exception`, so that no code of ours handles it."""


class FakeSpool:
    def __init__(self) -> None:
        self._data = bytearray()
        self._lock = threading.Lock()

    def write_at(self, offset: int, data: bytes) -> None:
        with self._lock:
            if len(self._data) < offset + len(data):
                self._data.extend(bytes(offset + len(data) - len(self._data)))
            self._data[offset : offset + len(data)] = data

    def read(self) -> Iterator[bytes]:
        for start in range(0, len(self._data), 1 << 20):
            yield bytes(self._data[start : start + (1 << 20)])

    def close(self) -> None:
        self._data = bytearray()


class FakeStore:
    """Objects by name. `die_at` is the number of the writing call to die at.

    A dead process makes no further call; `revive` is its next attempt.
    """

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.objects: dict[str, bytes] = {}
        self.writes: list[str] = []
        self.die_at: int | None = None
        self.die_after_effect = False
        self.is_away = False
        self._is_dead = False
        self._lock = threading.RLock()

    def revive(self) -> None:
        """The next process begins: the lease's holder is one that does not live any more."""
        self.die_at, self._is_dead = None, False
        if LOCK in self.objects:
            self.objects[LOCK] = self.objects[LOCK].replace(b'"started":', b'"started":9')

    def spool(self) -> FakeSpool:
        return FakeSpool()

    def create(self, name: str, data: bytes | Spool) -> bool:
        assert name != LOCK
        whole = data if isinstance(data, bytes) else b"".join(data.read())
        with self._lock:
            self._begin("create", name)
            there = self.objects.get(name)
            if there is None:
                self.objects[name] = whole
            self._end()
            return there is None or there == whole

    def open(self, name: str) -> BinaryIO:
        self._reading("open")
        return io.BytesIO(self._object(name))

    def read(self, name: str, offset: int, size: int) -> bytes:
        self._reading("read")
        return self._object(name)[offset : offset + size]

    def list(self, prefix: str = "") -> Iterator[Stat]:
        self._reading("list")
        with self._lock:
            found = sorted(self.objects.items())
        return iter([Stat(name, len(data)) for name, data in found if name.startswith(prefix)])

    def read_lock(self) -> tuple[bytes, str] | None:
        self._reading("read_lock")
        data = self.objects.get(LOCK)
        return None if data is None else (data, _tag(data))

    def write_lock(self, data: bytes, *, tag: str | None) -> str | None:
        with self._lock:
            self._begin("write_lock", LOCK)
            there = self.objects.get(LOCK)
            if tag != (None if there is None else _tag(there)):
                return None
            self.objects[LOCK] = data
            self._end()
            return _tag(data)

    def remove_lock(self, *, tag: str) -> bool:
        with self._lock:
            self._begin("remove_lock", LOCK)
            there = self.objects.get(LOCK)
            if there is None or _tag(there) != tag:
                return False
            del self.objects[LOCK]
            self._end()
            return True

    def _object(self, name: str) -> bytes:
        with self._lock:
            if name not in self.objects:
                raise NotFoundError(f"no object {name}")
            return self.objects[name]

    def _reading(self, call: str) -> None:
        self._answer()
        self.calls[call] += 1

    def _begin(self, call: str, name: str) -> None:
        self._answer()
        self.calls[call] += 1
        self.writes.append(name)
        if self.die_at == len(self.writes) and not self.die_after_effect:
            self._die()

    def _end(self) -> None:
        if self.die_at == len(self.writes) and self.die_after_effect:
            self._die()

    def _die(self) -> None:
        self._is_dead = True
        raise Stopped

    def _answer(self) -> None:
        if self._is_dead:
            raise Stopped
        if self.is_away:
            raise UnreachableError("the store is away")


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
