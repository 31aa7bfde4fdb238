"""The state folder: chosen once, kept, private, and safe with many hands in it."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from local.errors import StackError
from local.home import PROJECT, Home, is_free, replace_text

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_chosen_once_is_found_again_by_everybody(home: Home) -> None:
    chosen = home.port("a"), home.secret("s"), home.value("v", lambda: "first")
    other = Home.open(home.root)
    assert (other.port("a"), other.secret("s"), other.value("v", lambda: "second")) == chosen


def test_names_have_ports_and_secrets_of_their_own(home: Home) -> None:
    assert len({home.port(str(number)) for number in range(50)}) == 50
    assert home.secret("a") != home.secret("b")
    assert len(home.secret("a")) >= 43  # 32 bytes


def test_a_chosen_port_was_free_and_lies_below_those_of_outgoing_connections(
    home: Home,
) -> None:
    port = home.port("a")
    assert is_free(port)
    assert 1024 < port < 32_768


def test_a_port_that_is_listened_on_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not is_free(server.getsockname()[1])


def test_a_forgotten_port_is_chosen_anew(home: Home) -> None:
    home.port("a")
    home.forget_port("a")
    assert '"a"' not in (home.root / "stack.json").read_text()
    home.forget_port("never-chosen")


def test_everything_is_private(home: Home) -> None:
    home.secret("s")
    deep = home.path("one", "two", "file")
    assert mode(home.root) == mode(deep.parent) == mode(deep.parent.parent) == 0o700
    assert mode(home.root / "stack.json") == 0o600


def test_a_path_does_not_leave_the_home(home: Home) -> None:
    with pytest.raises(ValueError, match="leaves the home"):
        home.path("..", "elsewhere")


def test_the_environment_names_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KPAX_HOME", str(tmp_path / "named"))
    assert Home.open().root == tmp_path / "named"


def test_a_private_folder_made_by_mktemp_will_do(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    folder.mkdir(mode=0o700)
    assert Home.open(folder).is_own


def test_a_folder_that_others_use_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(StackError, match="other things"):
        Home.open(folder)
    assert mode(folder) == 0o755


def test_a_private_folder_with_other_things_works_and_is_never_our_own(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    (folder / "thesis.txt").write_text("mine")
    assert not Home.open(folder).is_own


def test_a_file_in_place_of_the_home_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=str(tmp_path / "file")):
        Home.open(tmp_path / "file")


def test_a_damaged_state_file_is_named(home: Home) -> None:
    home.port("a")
    (home.root / "stack.json").write_text("{")
    with pytest.raises(StackError, match=r"stack\.json is damaged"):
        Home.open(home.root).port("b")


def test_many_processes_choose_at_once_and_agree(home: Home) -> None:
    program = (
        "import sys; from local.home import Home; home = Home.open(sys.argv[1]);"
        "print([home.port(str(n)) for n in range(20)], home.secret('s'))"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(home.root)],
            cwd=PROJECT,
            stdout=subprocess.PIPE,
        )
        for _ in range(6)
    ]
    answers = {process.communicate()[0] for process in running}
    assert len(answers) == 1
    assert b"[" in answers.pop()


def test_a_lock_is_held_by_one_and_let_go_by_the_dead(home: Home) -> None:
    with home.locked("x") as held, home.locked("x", wait=False) as again:
        assert held
        assert not again
    program = (
        "import os, sys; from local.home import Home\n"
        "with Home.open(sys.argv[1]).locked('x'): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(home.root)], cwd=PROJECT, check=False)
    with home.locked("x", wait=False) as held:
        assert held


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_text(path, "old")
    before = path.stat().st_ino
    with pytest.raises(UnicodeEncodeError):
        replace_text(path, "\ud800")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 — names are compared
    replace_text(path, "new")
    assert path.stat().st_ino != before
