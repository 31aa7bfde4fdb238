"""Several sessions of one snapshot at work on one list of tasks."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from backups.database import reading
from backups.database.catalog import LARGE_OBJECT_LIST, LARGE_OBJECTS
from backups.database.model import Segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from backups.database.chains import Keeper
    from backups.database.plan import Task
    from backups.database.sessions import Session
    from backups.database.snapshot import OpenSnapshot

_WORTH_A_SESSION = 4 << 20


class Reading:
    """One pass over tasks. `done` holds a segment for each that was read.

    `is_cut_short` where `deadline` said so: the rest was left.
    """

    def __init__(
        self,
        snapshot: OpenSnapshot,
        keeper: Keeper,
        *,
        today: int,
        deadline: Callable[[], bool],
        report: Callable[[Task], None],
    ) -> None:
        self._snapshot = snapshot
        self._keeper = keeper
        self._today = today
        self._deadline = deadline
        self._report = report
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []
        self.done: list[tuple[Task, Segment]] = []
        self.is_cut_short = False

    def run(self, tasks: Sequence[Task], *, connections: int) -> None:
        """Read all of them; raises the first error, when no session is at work any more."""
        waiting: queue.SimpleQueue[Task] = queue.SimpleQueue()
        for task in tasks:
            waiting.put(task)
        size = sum(_weight(task) for task in tasks)
        helpers = max(0, min(connections, size // _WORTH_A_SESSION, len(tasks)) - 1)
        threads = [
            threading.Thread(target=self._help, args=(number, waiting), name=f"reader-{number}")
            for number in range(1, helpers + 1)
        ]
        for thread in threads:
            thread.start()
        try:
            self._work(self._snapshot.lead, waiting)
        except BaseException as error:  # noqa: BLE001 - raised below, when all have ended
            self._fail(error)
        for thread in threads:
            thread.join()
        for error in self._errors:
            raise error

    def _help(self, number: int, waiting: queue.SimpleQueue[Task]) -> None:
        try:
            known = self._snapshot.sessions
            session = known[number] if number < len(known) else self._snapshot.further()
            self._work(session, waiting)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that started this one
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._errors.append(error)
            first = len(self._errors) == 1
        self._stopped.set()
        if first:
            self._snapshot.cancel()

    def _work(self, session: Session, waiting: queue.SimpleQueue[Task]) -> None:
        session.rows("SET LOCAL enable_seqscan = off")
        with suppress(queue.Empty):
            while not self._stopped.is_set():
                task = waiting.get_nowait()
                if self._deadline():
                    self.is_cut_short = True
                    return
                segment = self._segment(session, task)
                with self._lock:
                    self.done.append((task, segment))
                self._report(task)

    def _segment(self, session: Session, task: Task) -> Segment:
        frames = task.earlier.frames if task.earlier else []
        relation, span = task.relation, task.span
        blocks = span if relation.by_blocks else None
        if relation.name == LARGE_OBJECTS:
            read = reading.large_objects(session, blocks, self._keeper, frames)
        elif relation.name == LARGE_OBJECT_LIST:
            read = reading.large_object_list(session, self._keeper, frames)
        elif blocks is None:
            read = reading.whole(session, relation, self._keeper, frames)
        else:
            read = reading.span(session, relation, blocks, self._keeper, frames)
        return Segment(
            start=span.start if span else 0,
            end=span.end if span else 0,
            rows=read.rows,
            read_on=self._today,
            as_of=0,
            frames=read.frames,
        )


def _weight(task: Task) -> int:
    """Roughly the bytes that a task reads."""
    if task.span is None or not task.relation.by_blocks:
        return task.relation.heap_bytes + task.relation.toast_bytes
    share = (task.span.end - task.span.start) * 8192
    whole = max(1, task.relation.heap_bytes)
    return share * (whole + task.relation.toast_bytes) // whole


def weight(tasks: Iterable[Task]) -> int:
    """Roughly the bytes that these tasks read."""
    return sum(_weight(task) for task in tasks)
