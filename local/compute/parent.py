"""The process that instances are forked from: everything is imported once, pages are shared.

One line of JSON on stdin asks for an instance, one line on stdout gives its pid. It ends when
stdin ends, which is when its starter is gone; its instances stay. It runs no thread and no
event loop, so that a fork copies nothing half done.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import logging
import os
import select
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from local import processes
from local.home import Home, replace_text
from local.limits import Plan
from local.serving import log_to_stderr
from local.space_app.instance import serve
from local.space_app.settings import InstanceConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

_PR_SET_NAME = 15
_ALREADY_RUNS = 3


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """All an instance needs to know at its birth."""

    config: InstanceConfig
    plan: dict[str, Any]
    fingerprint: str
    state_file: str
    log_file: str
    application: str
    """`module:function` that makes the web application, given the config."""


def main() -> None:
    """Fork an instance for each line, until stdin ends."""
    gc.collect()
    gc.freeze()  # nothing imported so far is looked at again: its pages stay shared
    for line in _lines():
        order = msgspec.json.decode(line, type=Order)
        pid = os.fork()
        if pid == 0:
            _become(order)
        os.write(1, b"%d\n" % pid)


def _lines() -> Iterator[bytes]:
    """Lines of stdin; meanwhile children that end are reaped, or they would look alive."""
    bell, ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(ring)
    waiting = select.poll()
    waiting.register(0, select.POLLIN)
    waiting.register(bell, select.POLLIN)
    rest = b""
    while True:
        ready = {handle for handle, _ in waiting.poll()}
        if bell in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(bell, 4096)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
        if 0 in ready:
            data = os.read(0, 65536)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from lines


def _become(order: Order) -> NoReturn:
    """In the fork: a session, files and limits of its own, then the application for life."""
    code = 1
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _own_files(order.log_file)
        name = order.config.instance
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name[-15:].encode(), 0, 0, 0)
        logging.getLogger().handlers.clear()
        log_to_stderr(name)
        with Home.open().locked(f"instance_{name}", wait=False) as alone:
            code = _live(order) if alone else _ALREADY_RUNS
    except BaseException as error:
        logging.getLogger("instance").exception("instance.ended")
        if not isinstance(error, Exception):
            code = 130
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _live(order: Order) -> int:
    plan = Plan.from_json(order.plan)
    identity = processes.identify(os.getpid())
    state = {
        "pid": os.getpid(),
        "started": identity.started if identity else 0,
        "fingerprint": order.fingerprint,
        "port": order.config.port,
        "mechanism": plan.mechanism,
        "memory_limit_mib": plan.memory_mib,
        "cpu_limit": plan.cpus,
        "listening": False,
        "error": "",
    }
    file = Path(order.state_file)
    replace_text(file, json.dumps(state))
    module, _, function = order.application.partition(":")
    try:
        plan.enter()
        make = getattr(importlib.import_module(module), function)
        serve(
            order.config,
            lambda: replace_text(file, json.dumps(state | {"listening": True})),
            make,
        )
    except OSError as error:
        replace_text(file, json.dumps(state | {"error": str(error), "errno": error.errno}))
        logging.getLogger("instance").error("instance.not_started %s", error)  # noqa: TRY400 — the reason says it all
        return 1
    return 0


def _own_files(log_file: str) -> None:
    """An empty stdin, the log as output, and nothing else of the parent's."""
    empty = os.open(os.devnull, os.O_RDONLY)
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(empty, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, max(map(int, os.listdir("/proc/self/fd"))) + 1)  # noqa: PTH208 — names wanted


if __name__ == "__main__":
    main()
