"""The command on a container of a real Azurite: backed up, verified, restored, also without us."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from backups.local.__main__ import main
from tests.backups.local import trees

if TYPE_CHECKING:
    from local.azurite import AzuriteAccounts

pytestmark = pytest.mark.stack
ROOT = Path(__file__).parents[3]


def test_a_container_holds_what_a_folder_would(
    azurite: AzuriteAccounts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    account = asyncio.run(azurite.ensure(f"b{uuid4().hex[:20]}"))
    url = f"{account.blob_endpoint}/backups"
    monkeypatch.setenv("AZURE_STORAGE_KEY", account.key)
    monkeypatch.setattr("backups.files.walk._TICK_NS", 0)
    key, files = tmp_path / "key", tmp_path / "files"
    key.write_bytes(b"k" * 32)
    trees.fill(files, trees.seeded(1))

    def call(verb: str, *options: object) -> dict[str, object]:
        capsys.readouterr()
        arguments = [verb, "--store", url, "--key-file", key, "--json", *options]
        assert main([str(one) for one in arguments]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    assert call("list") == {"items": []}
    call("backup", "--files", files)
    trees.change(files, trees.seeded(2))
    call("backup", "--files", files)
    unchanged = call("backup", "--files", files)
    assert int(str(unchanged["storage_calls"])) <= 8
    assert int(str(unchanged["bytes_stored"])) <= 4096
    assert call("verify", "--full")["findings"] == []
    assert call("restore", "--files", tmp_path / "back")["state"] == "complete"
    assert trees.seen(tmp_path / "back") == trees.seen(files)

    options = ["--store", url, "--key-file", key, "--out", tmp_path / "out"]
    alone = subprocess.run(
        [sys.executable, "-I", ROOT / "restore_standalone.py", *options],
        env={"AZURE_STORAGE_KEY": account.key},
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 0, alone.stderr
    assert trees.seen(tmp_path / "out" / "files") == trees.seen(files)
