"""The command line without a running stack: help, exit codes, reset; and every room is mounted."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

import kpax
from local.home import PROJECT, Home

if TYPE_CHECKING:
    from pathlib import Path


def run(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "kpax", *arguments],
        env={**os.environ, "KPAX_HOME": str(home), "PYTHONPATH": str(PROJECT), **environment},
        cwd=home.parent,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_the_overview_lists_every_command_and_imports_no_room() -> None:
    program = (
        "import sys, kpax; sys.argv = ['kpax', '--help']\n"
        "try: kpax.main()\n"
        "except SystemExit: pass\n"
        "rooms = ('spaces', 'geo_router', 'provisioning', 'backups', 'console', 'local', 'azure')\n"
        "print('IMPORTED', sorted(m for m in sys.modules if m.split('.')[0] in rooms))"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    assert "IMPORTED []" in told
    assert all(f" {name} " in told for name in kpax.COMMANDS)
    assert "Example: kpax up --detach" in told


@pytest.mark.parametrize("name", list(kpax.COMMANDS))
def test_every_command_is_there_and_its_help_shows_an_example(
    tmp_path: Path, name: str
) -> None:
    done = run(name, "--help", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert f"kpax {name}" in done.stdout
    assert "xample" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["bogus"],
        ["up", "--bogus"],
        ["up", "--watch", "--detach"],
        ["local", "bogus"],
        ["status", "extra"],
    ],
)
def test_an_unknown_command_or_option_is_bad_input(
    tmp_path: Path, arguments: list[str]
) -> None:
    done = run(*arguments, home=tmp_path / "home")
    assert done.returncode == 2
    assert done.stdout == ""


def test_status_without_a_stack_says_how_to_start_one(tmp_path: Path) -> None:
    done = run("status", home=tmp_path / "home")
    assert done.returncode == 6
    assert "kpax up" in done.stderr
    done = run("status", "--json", home=tmp_path / "home")
    assert done.returncode == 6
    body = json.loads(done.stdout)
    assert body["healthy"] is False
    assert {"functions_host", "service_bus", "resource_manager"} < set(body["services"])
    assert set(body["services"]["service_bus"]) == {"healthy", "pid", "address", "pss_mib"}


def test_env_without_a_stack_is_a_problem_document(tmp_path: Path) -> None:
    done = run("env", "--json", home=tmp_path / "home")
    assert done.returncode == 6
    assert json.loads(done.stdout)["type"].endswith("dependency-unavailable")
    assert "kpax up" in json.loads(done.stdout)["detail"]
    done = run("env", home=tmp_path / "home")
    assert (done.returncode, done.stdout) == (6, "")
    assert "kpax up" in done.stderr


def test_down_without_a_stack_is_done(tmp_path: Path) -> None:
    done = run("down", home=tmp_path / "home")
    assert done.returncode == 0
    assert "Nothing was running" in done.stderr


def test_too_little_disk_ends_a_start_in_one_line(tmp_path: Path) -> None:
    done = run("up", "--detach", home=tmp_path / "home", KPAX_MIN_FREE_MIB="999999999")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: Only ")
    assert len(done.stderr.splitlines()) == 1


def test_a_home_that_cannot_be_used_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("status", home=tmp_path / "file")
    assert done.returncode == 2
    assert "KPAX_HOME" in done.stderr


def test_reset_asks_and_tells_and_deletes_only_a_home(tmp_path: Path) -> None:
    home = Home.open(tmp_path / "home")
    home.secret("s")
    told = run("local", "reset", "--dry-run", home=home.root)
    assert told.returncode == 0
    assert "stack.json" in told.stdout
    asked = run("local", "reset", home=home.root)  # nobody can be asked
    assert asked.returncode == 2
    assert "--yes" in asked.stderr
    assert (home.root / "stack.json").exists()
    done = run("local", "reset", "--yes", home=home.root)
    assert done.returncode == 0
    assert not home.root.exists()


def test_reset_spares_a_folder_that_held_other_things(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    (folder / "thesis.txt").write_text("mine")
    done = run("local", "reset", "--yes", home=folder)
    assert done.returncode == 1
    assert (folder / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(("answer", "kept"), [(b"n\n", True), (b"y\n", False)])
def test_reset_asks_a_person(tmp_path: Path, answer: bytes, *, kept: bool) -> None:
    home = Home.open(tmp_path / "home")
    home.secret("s")
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "kpax", "local", "reset"],
        cwd=PROJECT,
        env={**os.environ, "KPAX_HOME": str(home.root)},
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        os.write(ours, answer)
        process.communicate(timeout=30)
        assert process.returncode == (2 if kept else 0)
    os.close(ours)
    os.close(theirs)
    assert (home.root / "stack.json").exists() is kept


def test_make_lists_its_targets() -> None:
    told = subprocess.run(
        ["make", "-s"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    for name in ("setup", "run", "demo", "test", "lint", "bench", "soak", "clean"):
        assert f"make {name} " in told


def test_without_python_the_way_to_get_it_is_told(tmp_path: Path) -> None:
    bin_only = tmp_path / "bin"
    bin_only.mkdir()
    for name in ("sh", "cat", "dirname"):
        (bin_only / name).symlink_to(f"/bin/{name}")
    done = subprocess.run(
        ["/bin/sh", str(PROJECT / "scripts" / "find-python")],
        env={"PATH": str(bin_only), "HOME": str(tmp_path), "PYENV_ROOT": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Python 3.13 was not found" in done.stderr
    assert "uv python install 3.13" in done.stderr


def test_a_named_python_of_another_version_is_refused(tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    done = subprocess.run(
        [str(PROJECT / "scripts" / "find-python")],
        env={**os.environ, "PYTHON": str(fake)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"PYTHON={fake}" in done.stderr
