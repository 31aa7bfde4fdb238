"""`python -m local.functions_host`: the Functions host of the local stack, until SIGTERM.

The app is the project, or the folder `KPAX_APP_DIR` names. App settings are the environment.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import signal
import sys
import uuid
from pathlib import Path

from local.errors import StackError
from local.functions_host import logs
from local.functions_host.host import Host
from local.functions_host.web.keys import Keys
from local.home import PROJECT, Home

_STARTED_IN = Path.cwd()
_APP = Path(os.environ.get("KPAX_APP_DIR") or PROJECT).resolve()


def main() -> int:
    """Run the host; the exit code."""
    faulthandler.enable()
    logs.install(20)
    try:
        asyncio.run(_serve())
    except StackError as error:
        sys.stderr.write(f"functions_host: {error}\n")
        return int(error.code)
    return 0


async def _serve() -> None:
    home = Home.open()
    host = Host(
        _APP,
        host_id=home.value("host_id", lambda: uuid.uuid4().hex),
        keys=Keys(
            function=home.secret("function_key"),
            master=home.secret("master_key"),
            file=home.path("functions_host", "keys.json"),
        ),
        environ=os.environ,
        recycle=_recycle,
    )
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    settings = await host.start(home.port("functions_host"))
    logs.install(settings.log_level)
    await ended.wait()
    await host.stop()


def _recycle() -> None:
    """Become a fresh host under the same pid; the connections of this one close on the way."""
    sys.stderr.flush()
    os.chdir(_STARTED_IN)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 — our own command line, no shell


if __name__ == "__main__":
    raise SystemExit(main())
