"""The keys of the host: what each opens, and the store of those that were added.

A host key opens every function, a function's key that function alone, the master key everything.
The master key and the host key `default` belong to the stack's home, which hands them to clients:
they cannot be changed here. All others live in a file that only its owner can read.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import secrets
from typing import TYPE_CHECKING

from local.errors import StackError
from local.functions_host.functions import Level

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp import web

MASTER, DEFAULT = "_master", "default"
HOST, SYSTEM = "functionkeys", "systemkeys"


class FixedKeyError(Exception):
    """The key is one of the stack's home."""


class Keys:
    """Keys by scope: `HOST`, `SYSTEM`, or `functions/NAME`."""

    def __init__(self, *, function: str, master: str, file: Path | None = None) -> None:
        self._default = function
        self._master = master
        self._file = file
        self._added: dict[str, dict[str, str]] = _read(file) if file else {}

    def level_of(self, request: web.BaseRequest, function: str = "") -> Level:
        """What the key in the request (header `x-functions-key`, or `code`) opens at `function`."""
        given = (
            request.headers.get("x-functions-key") or request.query.get("code") or ""
        ).encode(errors="surrogateescape")  # a header may hold any bytes
        # Every key is looked at, so that the time taken tells nothing.
        is_master = hmac.compare_digest(given, self._master.encode())
        good = [*self.of(HOST).values(), *self._added.get(scope_of(function), {}).values()]
        is_function = sum(hmac.compare_digest(given, key.encode()) for key in good) > 0
        if is_master:
            return Level.ADMIN
        return Level.FUNCTION if is_function else Level.ANONYMOUS

    def of(self, scope: str) -> dict[str, str]:
        """The keys of a scope by name. A function's `default` is made when first asked for."""
        if scope == HOST:
            return {DEFAULT: self._default} | self._added.get(scope, {})
        if scope != SYSTEM and scope not in self._added:
            self.put(scope, DEFAULT, None)
        return dict(self._added.get(scope, {}))

    def get(self, scope: str, name: str) -> str | None:
        """One key; the master key counts as a system key."""
        if (scope, name.lower()) == (SYSTEM, MASTER):
            return self._master
        return self.of(scope).get(name.lower())

    def put(self, scope: str, name: str, value: str | None) -> tuple[str, bool]:
        """Set a key, to a new random value when none is given; the value, and whether it is new.

        Raises:
            FixedKeyError: it belongs to the home.
        """
        _refuse_fixed(scope, name)
        keys = self._added.setdefault(scope, {})
        is_new = name.lower() not in keys
        keys[name.lower()] = value or secrets.token_urlsafe(40)
        self._write()
        return keys[name.lower()], is_new

    def delete(self, scope: str, name: str) -> bool:
        """Forget a key; False when there is none.

        Raises:
            FixedKeyError: it belongs to the home.
        """
        _refuse_fixed(scope, name)
        found = self._added.get(scope, {}).pop(name.lower(), None)
        if found is not None:
            self._write()
        return found is not None

    def _write(self) -> None:
        if self._file is None:
            return
        fresh = self._file.with_suffix(".new")
        with contextlib.suppress(FileNotFoundError):
            fresh.unlink()
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 — the mode from the first byte on
            json.dump(self._added, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)


def scope_of(function: str) -> str:
    """The scope of a function's own keys."""
    return f"functions/{function.lower()}"


def _refuse_fixed(scope: str, name: str) -> None:
    if name.lower() == MASTER or (scope, name.lower()) == (HOST, DEFAULT):
        raise FixedKeyError(name)


def _read(file: Path) -> dict[str, dict[str, str]]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StackError(f"{file} cannot be read: {error}.") from error
