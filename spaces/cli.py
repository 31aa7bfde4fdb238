"""What every command shares: data on stdout, talk on stderr, one table of exit codes.

`--json` prints the API's body unchanged; a failure prints the problem document there, or its
text on stderr without `--json`.
"""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from spaces.errors import Exit, KpaxError
from spaces.problems import problem

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

Json = Annotated[bool, typer.Option("--json", help="Print the API's JSON on stdout.")]


def emit(body: object, *, as_json: bool, text: str | None = None) -> None:
    """Print a body: as JSON, or as the given text (JSON, indented, where there is none)."""
    if as_json:
        print(json.dumps(body, ensure_ascii=False))
    elif text is not None:
        print(text)
    else:
        print(json.dumps(body, ensure_ascii=False, indent=2))


def say(message: str) -> None:
    """Talk: progress and remarks, on stderr."""
    print(message, file=sys.stderr)


def stop(code: Exit) -> NoReturn:
    """End the command with this exit code."""
    raise typer.Exit(int(code))


@contextlib.contextmanager
def failing(*, as_json: bool) -> Generator[None]:
    """Turn a `KpaxError` into its problem document or its text, and into its exit code."""
    try:
        yield
    except KpaxError as error:
        if as_json:
            print(json.dumps(problem(error), ensure_ascii=False))
        else:
            say(f"Error: {error}")
            for wrong in error.errors:
                say(f"  {wrong.pointer or '/'}: {wrong.message} [{wrong.code}]")
        raise typer.Exit(int(error.exit)) from error


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns for a person: plain text, no wrapping, an em dash for nothing."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max([len(head), *(len(row[at]) for row in cells)]) for at, head in enumerate(headers)
    ]
    lines = ["  ".join(head.upper().ljust(w) for head, w in zip(headers, widths, strict=True))]
    lines += ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(line.rstrip() for line in lines)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "—"
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return str(value)
