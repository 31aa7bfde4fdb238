"""The definitions of a database, written by pg_dump in two parts: before the rows, and after.

They are written anew only where a system catalogue changed, or after a week. Views, functions,
privileges, comments, policies and whatever PostgreSQL learns next are pg_dump's business.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from backups.database import programs
from backups.database.catalog import OWN_SCHEMA
from backups.database.chains import Cutter
from backups.database.statements import without_token

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from backups.database.chains import Keeper
    from backups.database.model import Frame

# The locks are ours already: whoever bars them waits for us, and would wait for ever.
_LOCK_MS = 1000
SECTIONS = ("pre-data", "post-data")


class Dumping:
    """pg_dump at work on both parts, beside whatever the caller does."""

    def __init__(
        self,
        *,
        dsn: str,
        pg_bin: Path | None,
        server: int,
        snapshot: str,
        encoding: str,
        keeper: Keeper,
        earlier: Sequence[Sequence[Frame]],
    ) -> None:
        self._frames: dict[str, list[Frame]] = {}
        self._errors: list[BaseException] = []
        self._keeper = keeper
        program = programs.reaching(dsn)
        at = programs.folder(pg_bin, server=server) / "pg_dump"
        self._running: dict[str, programs.Running] = {}
        for section in SECTIONS:
            argv = [
                str(at),
                f"--dbname={program.dbname}",
                f"--section={section}",
                f"--snapshot={snapshot}",
                f"--encoding={'SQL_ASCII' if encoding == 'SQL_ASCII' else 'UTF8'}",
                f"--exclude-schema={OWN_SCHEMA}",
                f"--lock-wait-timeout={_LOCK_MS}",
                "--no-blobs",  # older programs write them into the first part, newer ones into neither
                "--no-password",
            ]
            self._running[section] = programs.Running(argv, program)
        self._threads = [
            threading.Thread(target=self._run, args=(section, frames), name=section)
            for section, frames in zip(SECTIONS, earlier, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self) -> tuple[list[Frame], list[Frame]]:
        """The frames of both parts."""
        for thread in self._threads:
            thread.join()
        self.look()
        before, after = (self._frames[section] for section in SECTIONS)
        return before, after

    def look(self) -> None:
        """Raise what has gone wrong so far."""
        for error in self._errors:
            raise error

    def stop(self) -> None:
        """End the programs; safe to repeat."""
        for running in self._running.values():
            running.process.kill()
        for thread in self._threads:
            thread.join()

    def _run(self, section: str, earlier: Sequence[Frame]) -> None:
        try:
            cutter = Cutter(self._keeper, earlier, "definitions of the database")
            programs.pour(without_token(self._running[section].output()), cutter)
            self._frames[section] = cutter.end()
        except BaseException as error:  # noqa: BLE001 - raised in the thread that waits
            self._errors.append(error)
