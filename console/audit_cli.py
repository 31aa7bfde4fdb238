"""`kpax audit`: whether what is written about the spaces still holds."""

from __future__ import annotations

from typing import Annotated, cast
from urllib.parse import urlencode

import typer

from spaces.cli import Json, emit, failing, stop, table
from spaces.client import Body, connect
from spaces.errors import Exit

audit_app = typer.Typer(no_args_is_help=True, help="Check the audit chains.")


@audit_app.callback()
def _group() -> None:
    """Keep `verify` a command of its own."""


@audit_app.command("verify")
def verify(
    space: Annotated[
        str | None, typer.Argument(help="Id or name of a space; all without.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hash every audit entry anew and name the first that does not fit; exit 7 where one is broken.

    Example: kpax audit verify acme
    """
    with failing(as_json=as_json):
        body = connect().get(f"/audit?{urlencode({'space': space})}" if space else "/audit")
        items = cast("list[Body]", body["items"])
        rows = [
            (
                one["space_id"],
                "holds" if one["ok"] else "BROKEN",
                one["entries"],
                one["first_broken"],
            )
            for one in items
        ]
        headers = ("space", "chain", "entries", "first broken")
        emit(body, as_json=as_json, text=table(headers, rows))
        if not all(one["ok"] for one in items):
            stop(Exit.DAMAGED)
