"""The state folder of one local stack: ports, secrets and other things that are chosen once.

`KPAX_HOME` names it, `<project>/.kpax` without. Everything the stack keeps lies below it, for
its owner alone, so that two homes are two clouds. `stack.json` is shared by many processes: it
is changed under a file lock and replaced whole, and what it says never changes afterwards, so
a value once read is not read again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.errors import Code, StackError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).resolve().parent.parent

# Below the kernel's range for outgoing connections (32768 up), or a kept port would now and
# then be taken by somebody's browser; no port of browsers' refuse lists lies in it.
_FIRST_PORT, _LAST_PORT = 20_000, 32_000
_MARKER = "kpax-home"  # in folders that hold nothing but a home: only such a one may be emptied


class Home:
    """One state folder. Cheap to open; every process opens its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, Any] = {}

    @classmethod
    def open(cls, root: Path | str | None = None) -> Home:
        """The home at `root`, else at `$KPAX_HOME`, else `<project>/.kpax`; made when missing.

        Raises:
            StackError: the folder cannot be made or used, or others use it for other things.
        """
        path = _absolute(root) if root is not None else default_root()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _claim(path)
        except OSError as error:
            raise StackError(
                f"The state folder {path} cannot be used: {error.strerror}.",
                remedy="Name another one with KPAX_HOME.",
                code=Code.BAD_INPUT,
            ) from error
        return cls(path)

    def __repr__(self) -> str:
        return f"Home({str(self.root)!r})"

    def path(self, *parts: str) -> Path:
        """A path below the root; its parent folders exist afterwards, for the owner alone."""
        path = self.root.joinpath(*parts)
        if ".." in path.relative_to(self.root).parts:
            raise ValueError(f"{parts} leaves the home")
        folder = self.root
        for part in path.relative_to(self.root).parts[:-1]:
            folder /= part
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
        return path

    def port(self, name: str) -> int:
        """The TCP port of this name on 127.0.0.1: chosen when first asked for, then kept."""
        return self._kept("ports", name, lambda taken: _free_port(set(taken.values())))

    def ports(self, beginning: str) -> dict[str, int]:
        """The ports chosen so far whose names begin like this."""
        known = self._read().get("ports", {})
        return {name: port for name, port in known.items() if name.startswith(beginning)}

    def forget_port(self, name: str) -> None:
        """Let go of a port whose owner is gone for good; unknown names are no error."""
        self._known.pop(f"ports/{name}", None)
        with self._changing() as state:
            state.get("ports", {}).pop(name, None)

    def secret(self, name: str) -> str:
        """32 random bytes as urlsafe text, made once."""
        return self._kept("secrets", name, lambda _: secrets.token_urlsafe(32))

    def value(self, name: str, make: Callable[[], str]) -> str:
        """Any other text that is made once and then kept."""
        return self._kept("values", name, lambda _: make())

    @property
    def is_own(self) -> bool:
        """Whether the folder was empty when it became a home, so that all in it is the stack's."""
        return (self.root / _MARKER).exists()

    @contextlib.contextmanager
    def locked(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold the file lock `locks/<name>` over all processes; says whether it is held.

        With `wait=False` somebody else's lock is answered by False at once. A process that dies
        lets go of its locks, children do not inherit them.
        """
        handle = os.open(self.path("locks", name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(handle)

    def _kept(self, kind: str, name: str, make: Callable[[dict[str, Any]], Any]) -> Any:  # noqa: ANN401 — int or str, by kind
        known = f"{kind}/{name}"
        if known not in self._known:
            found = self._read().get(kind, {}).get(name)
            if found is None:
                with self._changing() as state:
                    group = state.setdefault(kind, {})
                    if name not in group:
                        group[name] = make(group)
                    found = group[name]
            self._known[known] = found
        return self._known[known]

    @contextlib.contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        with self.locked("stack"):
            state = self._read()
            before = json.dumps(state)
            yield state
            if json.dumps(state) != before:
                replace_text(self.path("stack.json"), json.dumps(state, indent=2) + "\n")

    def _read(self) -> dict[str, Any]:
        path = self.root / "stack.json"
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise StackError(
                f"{path} is damaged: {error}.",
                remedy="`kpax down`, then `kpax local reset` starts from nothing.",
            ) from error


def default_root() -> Path:
    """Where the home is when nobody names one; it may not exist."""
    return _absolute(os.environ.get("KPAX_HOME") or PROJECT / ".kpax")


def _absolute(path: Path | str) -> Path:
    return Path(path).expanduser().absolute()


def replace_text(path: Path, text: str, *, mode: int = 0o600) -> None:
    """Replace a file whole: a reader sees the old text or the new one, never half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _claim(path: Path) -> None:
    """Make the folder private and mark it as a home, unless it is somebody's folder of things."""
    mode = path.stat().st_mode
    if not stat.S_ISDIR(mode):
        raise NotADirectoryError(0, "it is not a folder")
    if (path / _MARKER).exists():
        return
    shared, used = mode & 0o066, any(path.iterdir())
    if shared and used:
        raise PermissionError(0, "others may look into it and it holds other things")
    if shared:
        path.chmod(0o700)
    if not used:
        (path / _MARKER).touch(mode=0o600)


def _free_port(taken: set[int]) -> int:
    for _ in range(1_000):
        port = _FIRST_PORT + secrets.randbelow(_LAST_PORT - _FIRST_PORT)
        if port not in taken and is_free(port):
            return port
    raise StackError(
        f"No free port between {_FIRST_PORT} and {_LAST_PORT} on 127.0.0.1.",
        remedy="End what holds them: `ss -ltnp`.",
    )


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
