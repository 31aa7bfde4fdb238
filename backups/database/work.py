"""Jobs spread over sessions: each is a step, and steps that may follow when it is done."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backups.database.sessions import Session

if TYPE_CHECKING:
    from collections.abc import Sequence

type Step = Callable[[Session], None]


@dataclass(slots=True)
class Job:
    """Something to do, and steps that may begin when it is done, in any order and side by side."""

    first: Step
    then: list[Step] = field(default_factory=list[Step])


def run(sessions: Sequence[Session], jobs: Sequence[Job]) -> None:
    """Do all of them; raises the first error when no session is at work any more.

    What follows a step goes before what has not begun, so that a large table's index is made while
    smaller tables are filled.
    """
    board = _Board(sessions, jobs)
    helpers = [
        threading.Thread(target=board.work, args=(session,), name=f"restore-{number}")
        for number, session in enumerate(sessions[1:], 1)
    ]
    for helper in helpers:
        helper.start()
    board.work(sessions[0])
    for helper in helpers:
        helper.join()
    for error in board.errors:
        raise error


class _Board:
    """What waits, and how many sessions are at work: these may bring more."""

    def __init__(self, sessions: Sequence[Session], jobs: Sequence[Job]) -> None:
        self._sessions = sessions
        self._waiting = deque(jobs)
        self._working = 0
        self._changed = threading.Condition()
        self.errors: list[BaseException] = []

    def work(self, session: Session) -> None:
        """Take jobs until there are none, and nobody is left who could bring one."""
        while (job := self._next()) is not None:
            try:
                job.first(session)
            except BaseException as error:  # noqa: BLE001 - raised by `run`, when all have ended
                self._fail(session, error)
            self._end(job)

    def _next(self) -> Job | None:
        with self._changed:
            while not self._waiting and self._working and not self.errors:
                self._changed.wait()
            if self.errors or not self._waiting:
                return None
            self._working += 1
            return self._waiting.popleft()

    def _end(self, job: Job) -> None:
        with self._changed:
            self._working -= 1
            self._waiting.extendleft(Job(step) for step in reversed(job.then))
            self._changed.notify_all()

    def _fail(self, session: Session, error: BaseException) -> None:
        with self._changed:
            self.errors.append(error)
            if len(self.errors) > 1:
                return
        for other in self._sessions:
            if other is not session:
                other.cancel()
