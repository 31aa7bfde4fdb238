"""`python -m backups.local` as others call it: fields, exit codes, what is on which stream."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from backups.local.__main__ import main
from tests.backups.local import trees

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
FIELDS = {
    "backup_id",
    "state",
    "kind",
    "seconds",
    "bytes_read",
    "bytes_stored",
    "storage_calls",
    "tables",
    "files",
    "root_hash",
    "expires_at",
}
Call = "Callable[..., tuple[int, Any, str]]"


@pytest.fixture
def call(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Any, str]]:
    """Run a command on the test's store; its exit code, the JSON it printed, what it said."""
    key = tmp_path / "key"

    def run(verb: str, *options: object, key_file: Path = key) -> tuple[int, Any, str]:
        arguments = [verb, "--key-file", str(key_file), "--json", *map(str, options)]
        if verb != "keygen":
            arguments += ["--store", str(tmp_path / "store")]
        capsys.readouterr()
        code = main(arguments)
        said = capsys.readouterr()
        return code, json.loads(said.out), said.err

    assert run("keygen")[0] == 0
    return run


def test_a_key_is_32_bytes_for_its_owner_and_never_replaced(
    tmp_path: Path, call: Callable[..., tuple[int, Any, str]]
) -> None:
    key = tmp_path / "key"
    before = key.read_bytes()
    assert len(before) == 32
    assert key.stat().st_mode & 0o777 == 0o600
    assert call("keygen")[0] == 3
    assert key.read_bytes() == before


def test_an_absent_store_has_no_snapshots(call: Callable[..., tuple[int, Any, str]]) -> None:
    code, printed, _ = call("list")
    assert (code, printed) == (0, {"items": []})
    assert call("restore", "--settings", "x")[0] == 2
    assert call("verify")[0] == 0


def test_backup_list_verify_restore(
    tmp_path: Path, call: Callable[..., tuple[int, Any, str]]
) -> None:
    files, settings = tmp_path / "files", tmp_path / "settings.json"
    trees.fill(files, trees.seeded(1))
    settings.write_text('{"a": 1}')
    code, made, _ = call("backup", "--files", files, "--settings", settings)
    assert code == 0
    assert set(made) == FIELDS
    assert made["state"] == "complete"
    code, listed, _ = call("list")
    assert code == 0
    (item,) = listed["items"]
    assert set(item) == {"backup_id", "state", "started_at", "completed_at", "bytes_stored"}
    assert (item["backup_id"], item["state"]) == (made["backup_id"], "complete")
    assert item["bytes_stored"] == made["bytes_stored"]
    for options in ([], ["--full"], ["--rolling", "3"]):
        code, verified, _ = call("verify", *options)
        assert (code, verified["state"], verified["findings"]) == (0, "ok", [])
    back, other = tmp_path / "back", tmp_path / "other.json"
    assert call("restore", "--files", back, "--settings", other, "--dry-run")[0] == 0
    assert not back.exists()
    code, restored, _ = call("restore", "--at", "latest", "--files", back, "--settings", other)
    assert (code, restored["state"]) == (0, "complete")
    assert trees.seen(back) == trees.seen(files)
    assert other.read_bytes() == settings.read_bytes()
    assert call("restore", "--files", back)[0] == 3
    assert (
        call("restore", "--at", "00000009-20260101T000000Z", "--files", tmp_path / "x")[0] == 2
    )
    one = tmp_path / "one"
    assert call("restore", "--files", one, "--only", "path:run.sh")[0] == 0
    assert [path.name for path in one.iterdir()] == ["run.sh"]
    assert call("restore", "--files", one, "--only", "nonsense")[0] == 2


def test_a_folder_that_is_gone_is_named_and_the_run_partial(
    tmp_path: Path, call: Callable[..., tuple[int, Any, str]]
) -> None:
    code, made, said = call("backup", "--files", tmp_path / "no such folder")
    assert (code, made["state"]) == (1, "partial")
    assert "no such folder" in said
    code, listed, _ = call("list")
    assert (code, [item["state"] for item in listed["items"]]) == (0, ["partial"])
    assert call("restore", "--files", tmp_path / "back")[0] == 2, "there is no complete one"


def test_a_database_that_cannot_be_reached_leaves_nothing_listed(
    call: Callable[..., tuple[int, Any, str]],
) -> None:
    code, _, said = call("backup", "--dsn", "postgresql://nobody@127.0.0.1:9/nothing")
    assert code == 6
    assert "127.0.0.1" in said
    assert call("list")[:2] == (0, {"items": []})


def test_a_wrong_key_and_damage_have_codes_of_their_own(
    tmp_path: Path, call: Callable[..., tuple[int, Any, str]]
) -> None:
    trees.fill(tmp_path / "files", trees.seeded(2))
    assert call("backup", "--files", tmp_path / "files")[0] == 0
    other = tmp_path / "other"
    other.write_bytes(b"o" * 32)
    for verb in ("list", "verify"):
        assert call(verb, key_file=other)[0] == 8
    assert call("backup", "--files", tmp_path / "files", key_file=other)[0] == 8
    assert call("restore", "--files", tmp_path / "back", key_file=other)[0] == 8
    pack = next((tmp_path / "store" / "p").iterdir())
    pack.write_bytes(pack.read_bytes()[:-1])
    code, verified, said = call("verify")
    assert code == 7
    assert verified["findings"][0]["object"] == f"p/{pack.name}"
    assert pack.name in said
    code, printed, said = call("restore", "--files", tmp_path / "back")
    assert code == 7
    assert printed["object"] == f"p/{pack.name}"
    assert pack.name in said
    assert call("restore", "--files", tmp_path / "back", "--skip-damaged")[0] == 1
    (tmp_path / "store" / "s" / "00000001").unlink()
    code, listed, _ = call("list")
    assert code == 7
    assert [item["state"] for item in listed["items"]] == ["damaged"]


def test_bad_input_is_told_as_such(
    tmp_path: Path, call: Callable[..., tuple[int, Any, str]]
) -> None:
    assert call("backup")[0] == 2
    assert call("backup", "--settings", tmp_path / "none")[0] == 2
    short = tmp_path / "short"
    short.write_bytes(b"short")
    assert call("list", key_file=short)[0] == 2
    assert call("list", key_file=tmp_path / "none")[0] == 2


def test_a_target_that_cannot_be_written_is_no_stack_trace(
    tmp_path: Path, call: Callable[..., tuple[int, Any, str]]
) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text("{}")
    assert call("backup", "--settings", settings)[0] == 0
    (tmp_path / "file").touch()
    arguments = ["--store", tmp_path / "store", "--key-file", tmp_path / "key"]
    target = ["--settings", tmp_path / "file" / "below"]
    assert main(["restore", *map(str, [*arguments, *target])]) == 1


def test_two_runs_at_once_on_one_store(
    tmp_path: Path, call: Callable[..., tuple[int, Any, str]]
) -> None:
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(4))
    arguments = [
        "--key-file",
        tmp_path / "key",
        "--store",
        tmp_path / "store",
        "--files",
        files,
    ]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "backups.local", "backup", *arguments],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for _ in range(3)
    ]
    codes = {process.wait() for process in processes}
    assert 0 in codes
    assert codes <= {0, 3}
    assert call("verify", "--full")[0] == 0
    assert call("restore", "--files", tmp_path / "back")[0] == 0
    assert trees.seen(tmp_path / "back") == trees.seen(files)


def test_a_killed_run_is_taken_over_and_continued(
    tmp_path: Path, call: Callable[..., tuple[int, Any, str]]
) -> None:
    """SIGKILL when some packs are there: nothing listed; the next run ends well, and restores."""
    files = tmp_path / "files"
    files.mkdir()
    random = trees.seeded(3)
    for number in range(90):
        (files / f"f{number}").write_bytes(random.randbytes(1_500_000))
    packs = tmp_path / "store" / "p"
    arguments = [
        "--key-file",
        tmp_path / "key",
        "--store",
        tmp_path / "store",
        "--files",
        files,
    ]
    stored = 0
    for wanted in (1, 4, 7):
        process = subprocess.Popen(
            [sys.executable, "-m", "backups.local", "backup", *arguments],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None and stored < wanted:
            stored = len(list(packs.iterdir())) if packs.is_dir() else 0
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert call("list")[:2] == (0, {"items": []})
    before = sum(path.stat().st_size for path in packs.iterdir())
    code, made, _ = call("backup", "--files", files)
    assert code == 0
    sent = before + made["bytes_stored"]
    assert sent < 90 * 1_500_000 + 3 * (64 << 20), "what was sent again"
    assert made["bytes_stored"] < 90 * 1_500_000 * 0.8
    assert call("restore", "--files", tmp_path / "back")[0] == 0
    assert trees.seen(tmp_path / "back") == trees.seen(files)
    assert call("verify", "--full")[0] == 0


def test_help_shows_an_example_for_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("keygen", "backup", "restore", "verify", "list"):
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0
        assert f"python -m backups.local {verb}" in capsys.readouterr().out
