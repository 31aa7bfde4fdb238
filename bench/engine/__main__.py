"""Compare the backup engine with restic, borg and plain pipes.

    python -m bench.engine                       all of it, five rounds
    python -m bench.engine --size 0.2 --rounds 1 --only rounds
    python -m bench.engine --json                one JSON object on stdout
    python -m bench.engine --publish             also write docs/benchmarks.md

A rival that is not installed is left out, and that is said. A missed goal is told, not an error;
exit code 1 says that something could not be measured, a restored state that differs above all.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bench import kit
from bench.engine import figures, growth, month, rounds
from bench.engine.server import Server
from bench.engine.space import Size, Space
from bench.engine.tools import installed

if TYPE_CHECKING:
    from collections.abc import Sequence

MEMORY = Path("/dev/shm")  # noqa: S108 — a private folder is made in it
PARTS = ("rounds", "month", "growth")


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    where = kit.machine()
    results: list[kit.Result] = []
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        root = Path(folder)
        root.chmod(0o711)
        with Server(root / "server") as server:
            tools, missing = installed(root / "tools", server)
            for line in missing:
                _say(line)
            for tool in tools:
                where[tool.name] = tool.version()
            where["postgresql"] = str(server.sql("postgres", "SHOW server_version")[0][0])
            where |= {f"without {line.split()[0]}": line for line in missing}
            parts = options.only or PARTS
            results.extend(_measured(part, options, server, root) for part in parts)
    if options.json:
        print(json.dumps({"machine": where, "items": [result.as_json() for result in results]}))
    if options.publish:
        figures.publish(kit.markdown(results, where))
    return 1 if any(result.failure for result in results) else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.engine", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.description = __doc__
    parser.add_argument("--size", type=float, default=1.0, help="1: about 660 MiB in all")
    parser.add_argument("--rounds", type=int, default=5, help="5")
    parser.add_argument("--days", type=int, default=30, help="of the month (30)")
    parser.add_argument("--small", type=float, default=0.2, help="size of the month's space")
    parser.add_argument("--large", type=float, default=3.0, help="what ten times is: 10 x 0.3")
    parser.add_argument("--only", action="append", choices=PARTS, help="this part")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--publish", action="store_true", help="write docs/benchmarks.md")
    return parser.parse_args(argv)


def _measured(part: str, options: argparse.Namespace, server: Server, root: Path) -> kit.Result:
    began, before = time.monotonic(), kit.load()
    found: list[kit.Figure] = []
    failure = None
    try:
        found = _measure(part, options, server, root)
    except (RuntimeError, OSError) as error:
        failure = f"{type(error).__name__}: {error}"
    result = kit.Result(
        name={
            "rounds": "backup engine, restic, borg, pipes",
            "month": "a month of 1 % days",
            "growth": "memory with ten times the space",
        }[part],
        took_s=time.monotonic() - began,
        load_before=before,
        load_after=kit.load(),
        figures=found,
        failure=failure,
    )
    for line in kit.rows(found):
        _say(line)
    _say(f"  {'FAILED: ' + failure if failure else ''}({result.took_s:.0f} s)\n")
    return result


def _measure(
    part: str, options: argparse.Namespace, server: Server, root: Path
) -> list[kit.Figure]:
    def made(share: float) -> rounds.Setting:
        space = Space(server, root, Size(share))
        space.make()
        return rounds.Setting(
            server=server,
            space=space,
            root=root,
            make_tools=lambda: installed(root / "tools", server)[0],
            say=_say,
        )

    match part:
        case "rounds":
            setting = made(options.size)
            try:
                return figures.of_rounds(
                    rounds.measure(setting, options.rounds), size=options.size
                )
            finally:
                setting.space.forget()
        case "month":
            setting = made(options.small)
            try:
                return month.measure(setting, options.days)
            finally:
                setting.space.forget()
        case _:
            return growth.measure(made, options.large)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _end(*_: object) -> NoReturn:
    """End as by Ctrl-C: server, command and folders go."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        _say("Interrupted; what was started is stopped.")
        sys.exit(130)
