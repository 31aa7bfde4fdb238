"""`python -m local.azurite.install`: put the pinned npm package in its folder, from the lock file.

Runs no script of any package. npm comes with the Node that will run Azurite, so that a machine
without Node needs nothing but the Node wheel of the environment.
"""

from __future__ import annotations

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
    program = Path(node())
    npm = shutil.which("npm", path=str(program.parent))
    if npm is None and (packaged := packaged_node()):  # some systems ship Node without npm
        program, npm = packaged, shutil.which("npm", path=str(packaged.parent))
    if npm is None:
        raise StackError(
            "npm was not found beside Node.", remedy="Install npm, or `make setup`."
        )
    path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        [npm, *_ARGUMENTS],
        cwd=_FOLDER,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackError(f"npm failed: {(done.stderr or done.stdout).strip()[-1200:]}")


if __name__ == "__main__":
    try:
        install()
    except StackError as error:
        sys.exit(str(error))
