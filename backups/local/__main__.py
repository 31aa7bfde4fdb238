"""`python -m backups.local`: back up any PostgreSQL database and any folder, and bring them back.

Data goes to stdout, talk to stderr. Exit codes are those of the whole project: 0 done, 1 partial or
failed, 2 bad input, 3 refused, 6 not reachable, 7 damaged, 8 wrong key.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, cast

import msgspec

from backups.local import commands
from spaces.errors import Exit, KpaxError
from spaces.problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EXAMPLES = """examples:
  python -m backups.local keygen --key-file space.key
  python -m backups.local backup --dsn postgresql://me@host/acme --files /srv/acme \\
      --settings acme.json --store /backups/acme --key-file space.key --json
  python -m backups.local list --store /backups/acme --key-file space.key
  python -m backups.local verify --store /backups/acme --key-file space.key --full
  python -m backups.local restore --store /backups/acme --key-file space.key --at latest \\
      --dsn postgresql://me@host/empty --files /srv/empty --settings acme.json

A store is a folder, or the URL of a container, whose credential the environment gives:
AZURE_STORAGE_CONNECTION_STRING, AZURE_STORAGE_KEY or AZURE_STORAGE_SAS_TOKEN.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    options = _parser().parse_args(arguments)
    try:
        answer = options.run(options, _say)
    except KpaxError as error:
        if options.json:
            _print(problem(error))
        _say(f"Error: {error}")
        return int(error.exit)
    except OSError as error:
        _say(f"Error: {error}")
        return int(Exit.FAILED)
    except KeyboardInterrupt:
        _say("Error: interrupted; what is stored already is used by the next run.")
        return int(Exit.FAILED)
    if options.json:
        _print(answer.shown)
    else:
        sys.stdout.writelines(line + "\n" for line in _lines(msgspec.to_builtins(answer.shown)))
    for note in answer.notes:
        _say(note)
    return int(answer.exit)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m backups.local",
        description="Back up a PostgreSQL database and a folder; list, verify, restore.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    keygen = _verb(verbs, "keygen", commands.keygen, "make a data key: 32 random bytes")
    keygen.add_argument("--key-file", required=True, metavar="F", help="where to; mode 0600")
    _add_backup(_verb(verbs, "backup", commands.backup, "make one snapshot"))
    _add_restore(_verb(verbs, "restore", commands.restore, "bring a snapshot back"))
    verify = _verb(verbs, "verify", commands.verify, "check structure and every reference")
    _add_store(verify)
    verify.add_argument("--full", action="store_true", help="read every frame of every pack")
    verify.add_argument(
        "--rolling",
        type=_count,
        metavar="N",
        help="read the N-th part of the packs whose turn it is",
    )
    _add_store(
        _verb(verbs, "list", commands.list_snapshots, "list the snapshots, oldest first")
    )
    return parser


def _add_backup(verb: argparse.ArgumentParser) -> None:
    _add_store(verb)
    verb.add_argument("--dsn", help="the database to back up")
    verb.add_argument("--pg-bin", metavar="DIR", help="folder of pg_dump")
    verb.add_argument("--files", metavar="DIR", help="the folder to back up")
    verb.add_argument("--settings", metavar="FILE", help="a file kept as it is")
    verb.add_argument("--full", action="store_true", help="read everything again, skip nothing")
    verb.add_argument(
        "--time-box",
        type=float,
        metavar="SECONDS",
        help="stop reading then; the snapshot is partial, and the next run continues it",
    )


def _add_restore(verb: argparse.ArgumentParser) -> None:
    _add_store(verb)
    verb.add_argument(
        "--at",
        default="latest",
        metavar="ID",
        help="latest (the newest complete one), or an id",
    )
    verb.add_argument("--dsn", help="an empty database")
    verb.add_argument("--pg-bin", metavar="DIR", help="folder of psql")
    verb.add_argument("--jobs", type=_count, default=2, metavar="N", help="connections (2)")
    verb.add_argument("--files", metavar="DIR", help="an empty folder, or one to make")
    verb.add_argument("--settings", metavar="FILE", help="where the settings go")
    verb.add_argument("--only", metavar="WHAT", help="table:NAME, path:PATH or settings")
    verb.add_argument(
        "--skip-damaged", action="store_true", help="restore what is whole, and name the rest"
    )
    verb.add_argument("--dry-run", action="store_true", help="look and say; write nothing")


def _add_store(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--store", required=True, metavar="DIR|URL", help="folder or container")
    verb.add_argument("--key-file", required=True, metavar="F", help="the data key")


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],  # pyright: ignore[reportPrivateUsage]
    name: str,
    run: Callable[[argparse.Namespace, Callable[[str], None]], commands.Answer],
    text: str,
) -> argparse.ArgumentParser:
    verb = verbs.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--json", action="store_true", help="print one JSON object")
    verb.set_defaults(run=run)
    return verb


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _print(answer: object) -> None:
    sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _lines(shown: object) -> list[str]:
    """The object for a person: a row for each item, or a line for each field."""
    fields = cast("dict[str, object]", shown)
    if set(fields) == {"items"}:
        items = cast("list[dict[str, object]]", fields["items"])
        return ["  ".join(str(value) for value in item.values()) for item in items]
    return [f"{name}: {value}" for name, value in fields.items()]


if __name__ == "__main__":
    sys.exit(main())
