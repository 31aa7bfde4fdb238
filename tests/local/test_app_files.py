"""Which files of an app are looked at, and when a change is told."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from local.app_files import Edits
from local.home import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

_IGNORE = """
# a comment
.*
!.funcignore
*.md
build/
/only_here.txt
infra/*
!infra/space.json
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    for path in ("function_app.py", "room/module.py", "room/page.html", "room/deep/data.json"):
        _write(tmp_path / path)
    (tmp_path / ".funcignore").write_text(_IGNORE)
    return tmp_path


def _write(path: Path, text: str = "x") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def _settled(edits: Edits) -> list[str]:
    """The first look sees files that have just changed, the second that they are still."""
    assert edits.seen() == []
    return edits.seen()


def test_nothing_changed_is_nothing_told(app: Path) -> None:
    edits = Edits(app)
    assert [edits.seen() for _ in range(3)] == [[], [], []]


@pytest.mark.parametrize(
    "path",
    [
        "function_app.py",
        "room/module.py",
        "room/deep/data.json",
        "new_room/new.py",
        "infra/space.json",
        ".funcignore",
        "room/only_here.txt",
        "room/build",  # a file: the rule means folders
    ],
)
def test_a_change_is_told_once(app: Path, path: str) -> None:
    edits = Edits(app)
    _write(app / path, "changed")
    if path == ".funcignore":
        _write(app / path, _IGNORE + "\n# more\n")
    assert _settled(edits) == [path]
    assert edits.seen() == []


@pytest.mark.parametrize(
    "path",
    [
        ".git/index",
        ".venv/lib/x.py",
        "README.md",
        "room/notes.md",
        "room/.hidden.swp",
        "build/x.py",
        "room/build/x.py",
        "only_here.txt",
        "infra/main.bicep",
    ],
)
def test_what_is_not_deployed_is_not_looked_at(app: Path, path: str) -> None:
    edits = Edits(app)
    _write(app / path, "changed")
    assert [edits.seen(), edits.seen()] == [[], []]


def test_a_file_that_is_gone_or_replaced_is_told(app: Path) -> None:
    edits = Edits(app)
    (app / "room/page.html").unlink()
    shutil.rmtree(app / "room/deep")
    # Same size, same time, another file: what some editors leave.
    module = app / "room/module.py"
    before = module.stat()
    _write(app / "room/module.new", "y")
    (app / "room/module.new").replace(module)
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _settled(edits) == ["room/deep/data.json", "room/module.py", "room/page.html"]


def test_files_that_still_change_are_waited_for(app: Path) -> None:
    edits = Edits(app)
    for number in range(3):
        _write(app / f"room/part{number}.py")
        assert edits.seen() == []
    assert edits.seen() == [f"room/part{number}.py" for number in range(3)]


def test_of_the_project_the_rooms_are_looked_at_and_the_stack_is_not() -> None:
    looked_at = set(Edits(PROJECT)._stamps())
    assert {"function_app.py", "host.json", "spaces/model.py", "infra/space.json"} <= looked_at
    folders = {path.split("/")[0] for path in looked_at}
    assert not folders & {"local", "tests", "bench", "docs", ".git", ".venv", ".kpax"}
    assert not any("__pycache__" in path for path in looked_at)
