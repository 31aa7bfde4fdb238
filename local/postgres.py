"""PostgreSQL: one server process per space, each from a fresh initdb.

A server's folder (`postgres/<name>/`) holds its data and `server.json`, written before a process
is started; a server is found again by pid and start time, or else by its marker. A copied data
folder would be faster to make, but shares its identity with its source and defeats the guards of
physical backups.

PostgreSQL refuses to run as root. As root it runs in a user namespace where the same files belong
to an ordinary account; where there are no user namespaces, under an account of its own. It
listens on 127.0.0.1 by TCP only: socket paths over 107 bytes fail.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import signal
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local import processes
from local.errors import StackError
from local.home import is_free, replace_text
from local.postgres_account import Account, account, binaries
from local.supervisor_checks import holder

if TYPE_CHECKING:
    from local.home import Home
    from local.processes import Identity

__all__ = ["PostgresServers", "Server", "binaries"]

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_USER = re.compile(r"[a-z_][a-z0-9_]{0,62}")

# Small on purpose: a space's database on a laptop. `io_method=sync` and no logical replication
# save four idle processes for each server.
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "max_worker_processes": "2",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "jit": "off",
}
_KEPT = {"listen_addresses", "unix_socket_directories"}
# A kill -9 loses nothing, a power cut may; KPAX_PG_FSYNC=on is for crash tests that go further.
# `synchronous_commit` stays on: without it commits wait in shared memory and a kill loses them.
_FAST = {"fsync": "off", "full_page_writes": "off"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One server as it is now."""

    name: str
    host: str
    port: int
    pid: int | None
    running: bool


class PostgresServers:
    """The servers of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def ensure(self, name: str, *, admin_user: str, admin_password: str) -> Server:
        """The server, made and started where needed; returns when it accepts connections.

        May be repeated from any point. The password is the one given first; a later one is set
        when it differs, as a PUT of the real resource does.

        Raises:
            StackError: a name is malformed, or the server does not start; the log's end is told.
        """
        if not _NAME.fullmatch(name) or not _USER.fullmatch(admin_user):
            raise StackError(f"{name!r} or {admin_user!r} is no server or user name.")
        async with self._locks[name]:
            runs_as = await asyncio.to_thread(account, self._home)
            known = self._record(name)
            same = _digest(admin_password) == known.get("password")
            identity = self._running(name)
            if not same:
                if identity:
                    await self._end(identity)
                identity = None
                await self._make(name, runs_as, admin_user, admin_password)
            if identity is None or not await self._accepting(name, identity):
                identity = await self._start(name, runs_as)
                if not await self._accepting(name, identity):
                    tail = self._log(name).read_text(errors="replace")[-800:].strip()
                    raise StackError(f"Database server {name} did not start: {tail}")
            return self._server(name)

    async def stop(self, name: str) -> None:
        """Stop the server, keep its data; one that does not run is no error."""
        async with self._locks[name]:
            identity = self._running(name)
            if identity:
                await self._end(identity)

    async def delete(self, name: str) -> None:
        """Stop the server and delete its data; an unknown one is no error."""
        await self.stop(name)
        async with self._locks[name]:
            await asyncio.to_thread(shutil.rmtree, self._folder(name), ignore_errors=True)
            self._log(name).unlink(missing_ok=True)
            self._home.forget_port(f"postgres-{name}")
            if self._folder(name).exists():
                raise StackError(f"{self._folder(name)} could not be deleted.")

    def get(self, name: str) -> Server | None:
        """The server as it is now, or None where none was made."""
        return self._server(name) if self._record(name) else None

    def pss_mib(self, name: str) -> float:
        """What the server and its sessions take together."""
        folder = (self._folder(name) / "data").resolve()
        return sum(processes.pss_mib(identity.pid) for identity in processes.living_in(folder))

    def all(self) -> list[Server]:
        """Every server that was made, running or not."""
        folder = self._home.path("postgres", "x").parent
        names = sorted(path.parent.name for path in folder.glob("*/server.json"))
        return [self._server(name) for name in names]

    # -- steps ---------------------------------------------------------------------------------

    async def _make(self, name: str, runs_as: Account, user: str, password: str) -> None:
        """Run initdb beside the place, then move it there; or change the password in place."""
        data = self._folder(name) / "data"
        if data.exists():
            await self._single_user(name, runs_as, user, password)
        else:
            self._write(name, port=self._home.port(f"postgres-{name}"))
            fresh = self._folder(name) / "data.new"
            await asyncio.to_thread(shutil.rmtree, fresh, ignore_errors=True)
            runs_as.make_folder(self._folder(name), passable=True)
            runs_as.make_folder(fresh)
            with tempfile.NamedTemporaryFile("w", dir=self._folder(name)) as file:
                file.write(password)
                file.flush()
                runs_as.give(Path(file.name))
                arguments = f"-U {user} --auth=scram-sha-256 -E UTF8 --locale=C.UTF-8 --no-sync"
                arguments += " --no-instructions"
                await self._run(
                    name,
                    runs_as,
                    ["initdb", "-D", str(fresh), f"--pwfile={file.name}", *arguments.split()],
                )
            fresh.rename(data)
        self._write(name, password=_digest(password), admin_user=user)

    async def _single_user(self, name: str, runs_as: Account, user: str, password: str) -> None:
        quoted = password.replace("'", "''")
        await self._run(
            name,
            runs_as,
            ["postgres", "--single", "-D", str(self._folder(name) / "data"), "postgres"],
            told=f"ALTER ROLE \"{user}\" PASSWORD '{quoted}'\n",
        )

    async def _run(
        self, name: str, runs_as: Account, argv: list[str], *, told: str = ""
    ) -> None:
        process = await asyncio.create_subprocess_exec(
            *runs_as.argv([str(runs_as.binaries / argv[0]), *argv[1:]]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            cwd="/",
            **runs_as.popen(),
        )
        output, _ = await process.communicate(told.encode())
        if process.returncode != 0 or b"ERROR:" in output:
            tail = output.decode(errors="replace").strip()[-600:]
            raise StackError(f"{argv[0]} for {name} failed: {tail}")

    async def _start(self, name: str, runs_as: Account) -> Identity:
        data = self._folder(name) / "data"
        await asyncio.to_thread(_clear, data)
        port = self._home.port(f"postgres-{name}")
        if not is_free(port):
            raise StackError(
                f"Port {port} of database server {name} is taken by {holder(port)}.",
                remedy="End it, then `kpax up`.",
            )
        settings = _SETTINGS | ({} if os.environ.get("KPAX_PG_FSYNC") == "on" else _FAST)
        # What is said on the command line would win over what ALTER SYSTEM has set.
        chosen = await asyncio.to_thread(_chosen, data)
        settings = {k: v for k, v in settings.items() if k not in chosen}
        options = [part for item in settings.items() for part in ("-c", "=".join(item))]
        self._write(name, pid=None, started=None)
        identity = processes.spawn(
            runs_as.argv(
                [str(runs_as.binaries / "postgres"), "-D", str(data), "-p", str(port), *options]
            ),
            home=self._home,
            name=f"postgres-{name}",
            log=self._log(name),
            cwd="/",
            uid_gid=runs_as.uid_gid,
            die_with_parent=False,
        )
        self._write(name, pid=identity.pid, started=identity.started)
        return identity

    async def _accepting(self, name: str, identity: Identity, timeout_s: float = 60.0) -> bool:
        """Wait until it accepts connections; False when it ended, or takes for ever."""
        port = self._home.port(f"postgres-{name}")
        deadline = time.monotonic() + timeout_s
        while not await _accepts(port):
            if not processes.alive(identity) or time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    async def _end(self, identity: Identity) -> None:
        # SIGINT is PostgreSQL's fast shutdown: sessions are cut, everything is written.
        await asyncio.to_thread(processes.end, identity, sig=signal.SIGINT, grace_s=10.0)

    # -- what is written down ------------------------------------------------------------------

    def _running(self, name: str) -> Identity | None:
        record = self._record(name)
        if record.get("pid"):
            known = processes.Identity(record["pid"], record["started"])
            if processes.alive(known):
                return known
        return processes.find(self._home, f"postgres-{name}") if record else None

    def _server(self, name: str) -> Server:
        identity = self._running(name)
        return Server(
            name=name,
            host="127.0.0.1",
            port=self._home.port(f"postgres-{name}"),
            pid=identity.pid if identity else None,
            running=identity is not None,
        )

    def _record(self, name: str) -> dict[str, Any]:
        with suppress(FileNotFoundError):
            return json.loads((self._folder(name) / "server.json").read_bytes())
        return {}

    def _write(self, name: str, **changes: object) -> None:
        record = self._record(name) | changes
        replace_text(self._home.path("postgres", name, "server.json"), json.dumps(record))

    def _folder(self, name: str) -> Path:
        return self._home.path("postgres", name)

    def _log(self, name: str) -> Path:
        return self._home.path("logs", f"postgres-{name}.log")


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _clear(data: Path) -> None:
    """End what a killed server left behind, then its lock file.

    Its sessions may outlive it for a moment and still write; and the number in the lock file may
    by now belong to a stranger, for whose sake PostgreSQL would refuse to start.
    """
    orphans = processes.living_in(data.resolve())
    if not processes.wait_gone(orphans, timeout_s=2.0):
        for orphan in orphans:
            processes.end(orphan, grace_s=0.0)
    (data / "postmaster.pid").unlink(missing_ok=True)


def _chosen(data: Path) -> set[str]:
    """The settings that ALTER SYSTEM has written."""
    with suppress(FileNotFoundError):
        text = (data / "postgresql.auto.conf").read_text(errors="replace")
        return set(re.findall(r"^([a-z0-9_.]+) = ", text, re.MULTILINE)) - _KEPT
    return set()


async def _accepts(port: int) -> bool:
    """Whether the server asks for a password: the first thing a ready one does."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    try:
        body = b"\x00\x03\x00\x00user\x00postgres\x00database\x00postgres\x00\x00"
        writer.write((len(body) + 4).to_bytes(4, "big") + body)
        return await reader.read(1) == b"R"
    except OSError:
        return False
    finally:
        writer.close()
