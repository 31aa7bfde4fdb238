"""The command `kpax`, put together from each room's `cli.py`.

A room is imported when one of its commands is called, and not before: `kpax --help` and
`kpax status` answer at once. Rooms that talk to the running stack learn here where it is; they
do not know the local stack themselves.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Command, Context  # pyright: ignore[reportPrivateUsage] — typer carries its own click and exports neither

    from spaces.client import Endpoint


class Entry(NamedTuple):
    """A command: where its code is (`module:attribute`), its line in the overview, an example."""

    target: str
    help: str
    example: str


COMMANDS: dict[str, Entry] = {
    "up": Entry(
        "local.cli:up", "Start the local stack, or what is missing of it.", "kpax up --detach"
    ),
    "down": Entry("local.cli:down", "Stop the local stack; the data stays.", "kpax down"),
    "status": Entry(
        "local.cli:show_status", "Say which part of the stack runs where.", "kpax status --json"
    ),
    "env": Entry(
        "local.cli:env", "Print addresses, keys and connection strings.", "kpax env --json"
    ),
    "local": Entry(
        "local.cli:local_app",
        "What concerns this machine alone: reset.",
        "kpax local reset --dry-run",
    ),
    "route": Entry(
        "geo_router.cli:route_app",
        "Ask where a customer's space may live.",
        "kpax route --country DE --sector health",
    ),
    "rules": Entry(
        "geo_router.rulebook.cli:rules_app",
        "Look at, check and compare the rules.",
        "kpax rules lint",
    ),
    "compliance": Entry(
        "geo_router.rulebook.cli:compliance_app",
        "The platform's certifications per cluster.",
        "kpax compliance matrix",
    ),
    "order": Entry(
        "provisioning.cli:order_app",
        "Order a space.",
        "kpax order create --name acme --country DE --plan standard --customer-ref c-42",
    ),
    "billing": Entry(
        "provisioning.cli:billing_app",
        "Send events as the billing system does; compare with its list.",
        "kpax billing send activated --order o-4mz6c2qk7d",
    ),
    "alarm": Entry(
        "provisioning.cli:alarm_app",
        "See and close what a person must look at.",
        "kpax alarm list",
    ),
    "space": Entry(
        "console.space_cli:space_app",
        "Look at spaces; suspend, resize, cancel them and more.",
        "kpax space show acme",
    ),
    "op": Entry(
        "console.operator_cli:op_app",
        "Look at operations; retry, skip, roll back, abort, adopt.",
        "kpax op list acme",
    ),
    "pause": Entry(
        "console.operator_cli:pause_app",
        "Hold a space, a cluster or the fleet.",
        "kpax pause space acme --reason maintenance",
    ),
    "unpause": Entry(
        "console.operator_cli:unpause_app",
        "Let a space, a cluster or the fleet go on.",
        "kpax unpause space acme --reason done",
    ),
    "queue": Entry(
        "console.cli:queue_app",
        "Look at queues, dead and rejected messages.",
        "kpax queue list",
    ),
    "audit": Entry(
        "console.audit_cli:audit_app",
        "Check the audit chains.",
        "kpax audit verify acme",
    ),
    "backup": Entry(
        "backups.cli:backup_app",
        "Back up a space, list its backups.",
        "kpax backup run acme --wait",
    ),
    "restore": Entry(
        "backups.cli:restore",
        "Restore a space from a backup.",
        "kpax restore acme --at latest --dry-run",
    ),
}


class _Rooms(TyperGroup):
    """Lists commands from the table, and loads the one that is called."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Every command, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """A stand-in that is good for the overview; `resolve_command` loads the real one."""
        entry = COMMANDS.get(cmd_name)
        return TyperCommand(cmd_name, help=entry.help) if entry else None

    def resolve_command(
        self, ctx: Context, args: list[str]
    ) -> tuple[str | None, Command | None, list[str]]:
        """The command that is called, loaded."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and command is not None:
            command = _load(COMMANDS[name])
        return name, command, rest


def _load(entry: Entry) -> Command:
    module, _, attribute = entry.target.partition(":")
    if not module.startswith("local."):
        from spaces import client  # noqa: PLC0415 — only rooms that ask the stack need it

        client.use(_running_stack)
    found: Any = getattr(importlib.import_module(module), attribute)
    if isinstance(found, typer.Typer):
        command = typer.main.get_group(found)  # a group even where it has a single verb so far
    else:
        alone = typer.Typer(add_completion=False)
        alone.command()(found)
        command = typer.main.get_command(alone)
    if "Example:" not in (command.help or ""):
        command.help = f"{command.help or entry.help}\n\nExample: {entry.example}"
    return command


def _running_stack() -> Endpoint:
    """Where the stack of this home answers.

    Raises:
        UnreachableError: it does not run.
    """
    from local.home import default_root  # noqa: PLC0415 — lazy, like everything here
    from spaces.client import Endpoint, not_running  # noqa: PLC0415

    if default_root().exists():
        from local.home import Home  # noqa: PLC0415
        from local.stack import environment  # noqa: PLC0415
        from local.supervisor_state import any_running  # noqa: PLC0415

        home = Home.open()
        if any_running(home):
            found = environment(home)
            return Endpoint(
                url=str(found["functions"]),
                function_key=str(found["function_key"]),
                bus_connection=str(found["service_bus_connection"]),
                home=str(home.root),
            )
    raise not_running()


app = typer.Typer(
    cls=_Rooms,
    no_args_is_help=True,
    add_completion=False,
    help="Open, serve, back up and restore customers' spaces.\n\nExample: kpax up --detach",
)


@app.callback()
def _main() -> None:
    """Open, serve, back up and restore customers' spaces.

    Example: kpax up --detach
    """


def main() -> None:
    """Run the command line; a wrong call is a problem document where JSON is asked for."""
    if "--json" not in sys.argv[1:]:
        app(prog_name="kpax")
        return
    try:
        code: object = app(prog_name="kpax", standalone_mode=False)
    except Exception as error:
        told = getattr(error, "format_message", None)
        if told is None:
            raise
        sys.exit(_wrong_call(str(told())))
    sys.exit(code if isinstance(code, int) else 0)


def _wrong_call(message: str) -> int:
    from spaces.errors import InvalidError  # noqa: PLC0415 — only after a mistake
    from spaces.problems import problem  # noqa: PLC0415 — likewise

    error = InvalidError(message.rstrip("."), remedy="See the command's --help.")
    print(json.dumps(problem(error), ensure_ascii=False))
    return int(error.exit)


if __name__ == "__main__":
    main()
