"""The tools that are compared, each as its makers mean it to be used for a database and a folder.

A tool keeps what it stores below a folder of its own, and restores into an empty database and an
empty folder. What it needs once (a key, an empty repository) is made outside of the clock.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.engine import watch
from local.home import PROJECT

if TYPE_CHECKING:
    from bench.engine.server import Server
    from bench.engine.space import Space
    from bench.engine.watch import Taken

# Rivals store nothing of a table that only the engine writes, nor the token of each dump.
_DUMP = "pg_dump -Fp --restrict-key=bench --exclude-schema=kpax_backup"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a restore goes: an empty database, and a folder that is not there yet."""

    dsn: str
    folder: Path


class Tool(Protocol):
    """One way to back up."""

    name: str
    store: Path

    def version(self) -> str:
        """What is compared."""
        ...

    def prepare(self) -> None:
        """Make the key or the repository."""
        ...

    def back_up(self, space: Space) -> Taken:
        """Take one snapshot of database, files and settings."""
        ...

    def restore(self, place: Place) -> Taken:
        """Bring the newest one back."""
        ...

    def scrub(self) -> Taken | None:
        """Read and check all that is stored."""
        ...


class Engine:
    """`python -m backups.local`."""

    name = "engine"

    def __init__(self, root: Path, server: Server) -> None:
        self.store = root / "engine" / "store"
        self._key = root / "engine" / "key"
        self._env = {"KPAX_PG_BIN": str(server.programs)}

    def version(self) -> str:
        """Of the stored format, which is what this commit writes."""
        done = subprocess.run(
            ["git", "describe", "--always"], cwd=PROJECT, capture_output=True, check=False
        )
        return f"of commit {done.stdout.decode().strip() or 'unknown'}"

    def prepare(self) -> None:
        """Make the key or the repository."""
        self.store.parent.mkdir(parents=True)
        self._run("keygen")

    def back_up(self, space: Space) -> Taken:
        """Take one snapshot of database, files and settings."""
        return self._run("backup", *self._at(space.dsn, space.folder), *self._store)

    def restore(self, place: Place) -> Taken:
        """Bring the newest one back."""
        place.folder.mkdir()
        return self._run(
            "restore", *self._at(place.dsn, place.folder), *self._store, "--at", "latest"
        )

    def scrub(self) -> Taken:
        """Read and check all that is stored."""
        return self._run("verify", *self._store, "--full")

    @staticmethod
    def said(taken: Taken) -> dict[str, Any]:
        """The object that a command printed."""
        return json.loads(taken.stdout)

    def back_up_on(self, moment: str, space: Space) -> Taken:
        """A backup that believes it is another day."""
        argv = ["backup", *self._at(space.dsn, space.folder), *self._store]
        return self._run(*argv, module=("bench.engine.dated", moment))

    @property
    def _store(self) -> tuple[str, ...]:
        return ("--store", str(self.store))

    @staticmethod
    def _at(dsn: str, folder: Path) -> tuple[str, ...]:
        files, settings = folder / "files", folder / "settings.json"
        return ("--dsn", dsn, "--files", str(files), "--settings", str(settings))

    def _run(
        self, verb: str, *options: str, module: tuple[str, ...] = ("backups.local",)
    ) -> Taken:
        argv = [sys.executable, "-m", *module, verb, *options]
        return watch.run(
            [*argv, "--key-file", str(self._key), "--json"], env=self._env, cwd=PROJECT
        )


class Restic:
    """The dump through a pipe, the folder as it is; compression and cache as by default."""

    name = "restic"

    def __init__(self, root: Path, server: Server) -> None:
        self.store = root / "restic" / "repository"
        self._env = _path(server) | {
            "RESTIC_REPOSITORY": str(self.store),
            "RESTIC_PASSWORD": "bench",
            "RESTIC_CACHE_DIR": str(root / "restic" / "cache"),
        }

    def version(self) -> str:
        """What is compared."""
        return _said("restic", "version")

    def prepare(self) -> None:
        """Make the key or the repository."""
        self.store.parent.mkdir(parents=True)
        self._sh("restic -q init --repository-version 2", self.store.parent)

    def back_up(self, space: Space) -> Taken:
        """Take one snapshot of database, files and settings."""
        return self._sh(
            f"{_DUMP} '{space.dsn}' | restic -q backup --stdin --stdin-filename db.sql --tag db"
            " && restic -q backup --tag files files settings.json",
            space.folder,
        )

    def restore(self, place: Place) -> Taken:
        """Bring the newest one back."""
        place.folder.mkdir()
        return self._sh(
            f"restic -q dump --tag db latest db.sql | psql -q -X -o /dev/null '{place.dsn}'"
            " && restic -q restore --tag files latest --target .",
            place.folder,
        )

    def scrub(self) -> Taken:
        """Read and check all that is stored."""
        return self._sh("restic -q check --read-data", self.store)

    def add_day(self, space: Space, stamp: str) -> None:
        """A backup that says it was made at another time."""
        time = f"--time '{stamp}'"
        self._sh(
            f"{_DUMP} '{space.dsn}' | restic -q backup {time} --stdin --stdin-filename db.sql"
            f" && restic -q backup {time} files settings.json",
            space.folder,
        )

    def _sh(self, line: str, cwd: Path) -> Taken:
        return watch.run(_shell(line), env=self._env, cwd=cwd)


class Borg:
    """The dump through a pipe, the folder as it is; encrypted, and compressed as restic does."""

    name = "borg"

    def __init__(self, root: Path, server: Server) -> None:
        self.store = root / "borg" / "repository"
        self._number = 0
        self._env = _path(server) | {
            "BORG_REPO": str(self.store),
            "BORG_PASSPHRASE": "bench",
            "BORG_BASE_DIR": str(root / "borg" / "base"),
        }

    def version(self) -> str:
        """What is compared."""
        return _said("borg", "--version")

    def prepare(self) -> None:
        """Make the key or the repository."""
        self.store.parent.mkdir(parents=True)
        self._sh("borg init -e repokey-blake2", self.store.parent)

    def back_up(self, space: Space) -> Taken:
        """Take one snapshot of database, files and settings."""
        self._number += 1
        create = "borg create --compression zstd,3"
        return self._sh(
            f"{_DUMP} '{space.dsn}' | {create} --stdin-name db.sql ::db-{self._number} -"
            f" && {create} ::files-{self._number} files settings.json",
            space.folder,
        )

    def restore(self, place: Place) -> Taken:
        """Bring the newest one back."""
        place.folder.mkdir()
        return self._sh(
            f"borg extract --stdout ::db-{self._number} | psql -q -X -o /dev/null '{place.dsn}'"
            f" && borg extract ::files-{self._number}",
            place.folder,
        )

    def scrub(self) -> Taken:
        """Read and check all that is stored."""
        return self._sh("borg check --verify-data", self.store)

    def _sh(self, line: str, cwd: Path) -> Taken:
        return watch.run(_shell(line), env=self._env, cwd=cwd)


class Pipes:
    """`pg_dump` and `tar` into `zstd`: the floor, without encryption, history or any check.

    The restore is that of `pg_restore -j2`, which needs another dump, made outside of the clock.
    """

    name = "pipes"

    def __init__(self, root: Path, server: Server) -> None:
        self.store = root / "pipes"
        self._env = _path(server)

    def version(self) -> str:
        """What is compared."""
        return f"{_said('zstd', '--version')}; {_said('tar', '--version')}"

    def prepare(self) -> None:
        """Make the key or the repository."""
        self.store.mkdir(parents=True)

    def back_up(self, space: Space) -> Taken:
        """Take one snapshot of database, files and settings."""
        return self._sh(
            f"{_DUMP} '{space.dsn}' | zstd -q -f -3 -o '{self.store}/db.zst'"
            " && tar c --format=posix files settings.json"
            f" | zstd -q -f -T0 -o '{self.store}/files.zst'",
            space.folder,
        )

    def dump(self, space: Space) -> None:
        """The dump that `pg_restore` takes."""
        self._sh(
            f"pg_dump -Fc --exclude-schema=kpax_backup '{space.dsn}' -f '{self.store}/db.dump'",
            space.folder,
        )

    def restore(self, place: Place) -> Taken:
        """Bring the newest one back."""
        place.folder.mkdir()
        return self._sh(
            f"pg_restore -j2 -d '{place.dsn}' '{self.store}/db.dump'"
            f" && zstd -q -d -c '{self.store}/files.zst' | tar x",
            place.folder,
        )

    def scrub(self) -> None:
        """Read and check all that is stored."""

    def _sh(self, line: str, cwd: Path) -> Taken:
        return watch.run(_shell(line), env=self._env, cwd=cwd)


def installed(root: Path, server: Server) -> tuple[list[Tool], list[str]]:
    """The tools of this machine, and a line for each that is missing."""
    tools: list[Tool] = [Engine(root, server), Pipes(root, server)]
    missing: list[str] = []
    for rival in (Restic, Borg):
        if shutil.which(rival.name):
            tools.append(rival(root, server))
        else:
            missing.append(f"{rival.name} is not installed: not compared with it")
    return tools, missing


def _shell(line: str) -> list[str]:
    """With bash, for the exit code of a pipe's first part."""
    return ["bash", "-c", f"set -o pipefail; {line}"]


def _path(server: Server) -> dict[str, str]:
    return {"PATH": f"{server.programs}:{os.environ['PATH']}"}


def _said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout or done.stderr).strip().splitlines()[0]
