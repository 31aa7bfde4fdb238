"""The engine's command on another day: the same words after the moment that it takes for now.

python -m bench.engine.dated 2026-06-01T02:00:00+00:00 backup --store … --key-file …
"""

from __future__ import annotations

import sys
from datetime import datetime, tzinfo
from typing import Self

from backups.local import run
from backups.local.__main__ import main


def at(moment: str) -> type[datetime]:
    """A `datetime` whose `now` is always the same."""
    fixed = datetime.fromisoformat(moment)

    class Dated(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(fixed.timestamp(), tz)

    return Dated


if __name__ == "__main__":
    run.datetime = at(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
