"""`python -m local.azurite.install`: put the pinned npm package in its folder, from the lock file.

Runs no script of any package. npm comes with the Node that will run Azurite, so that a machine
without Node needs nothing but the Node wheel of the environment.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from local.azurite.servers import node, packaged_node
from local.errors import StackError

_FOLDER = Path(__file__).parent
_ARGUMENTS = ["ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]


def install() -> None:
    """Install what package-lock.json says.

    Raises:
        StackError: npm is missing or failed; its last words are told.
    """
    command = _npm(Path(node()))
    if command is None and (packaged := packaged_node()):  # some systems ship Node without npm
        command = _npm(packaged)
    if command is None:
        raise StackError(
            "npm was not found beside Node.", remedy="Install npm, then `make setup`."
        )
    path = f"{Path(command[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    # npm begins by emptying the folder: two at once would leave half of it.
    with (_FOLDER / "package.json").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = subprocess.run(
            [*command, *_ARGUMENTS],
            cwd=_FOLDER,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise StackError(f"npm failed: {(done.stderr or done.stdout).strip()[-1200:]}")


def _npm(program: Path) -> list[str] | None:
    """The command that is npm under this Node.

    Its script is named where it is: the Node wheel's `bin/npm` is a copy that finds nothing.
    """
    script = program.parent.parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    if script.exists():
        return [str(program), str(script)]
    beside = shutil.which("npm", path=str(program.parent))
    return [beside] if beside else None


if __name__ == "__main__":
    try:
        install()
    except StackError as error:
        sys.exit(str(error))
