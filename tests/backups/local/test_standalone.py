"""restore_standalone.py reads every published version of the format, alone and in an empty world."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backups.database.chains import Texts
from backups.database.model import named_frames
from backups.files.walk import Walk
from backups.local.parts import database_part
from backups.local.restore import Wish, bring_back
from backups.local.run import Order, back_up
from backups.local.verify import Check, verify
from backups.store.folder import FolderStore
from backups.store.keys import Keys
from backups.store.packs import Reader
from backups.store.snapshots import Listing, open_by_id, open_latest
from spaces.errors import NotFoundError
from tests.backups.local import trees
from tests.backups.local.rig import run

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / "restore_standalone.py"
FIXTURES = ROOT / "tests" / "backups" / "fixtures"
ALLOWED = {"cryptography", "compression", "backports"} | set(sys.stdlib_module_names)


def restored(
    store: Path | str, key: Path, out: Path, *, at: str = "latest"
) -> subprocess.CompletedProcess[str]:
    """The script in an empty environment, away from the project."""
    options = ["--store", str(store), "--key-file", str(key), "--at", at, "--out", str(out)]
    return subprocess.run(
        [sys.executable, "-I", SCRIPT, *options],
        cwd="/",
        env={},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_imports_nothing_of_the_project() -> None:
    tree = ast.parse(SCRIPT.read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= ALLOWED


def test_version_1_is_read(tmp_path: Path) -> None:
    place = FIXTURES / "store-v1"
    done = restored(place / "store", place / "key", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "files" / "d" / "1.pdf").read_bytes() == b"a contract " * 9000
    assert (tmp_path / "out" / "files" / "d" / "3.txt").read_text() == "third"
    assert '"title": "acme"' in (tmp_path / "out" / "settings").read_text()
    assert b"Pumpe" in (tmp_path / "out" / "database.dump").read_bytes()


def test_version_2_is_read_with_its_differences(tmp_path: Path) -> None:
    place = FIXTURES / "store-v2"
    done = restored(place / "store", place / "key", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    files = tmp_path / "out" / "files"
    assert len([path for path in files.rglob("*") if path.is_file()]) == 618
    assert (files / "folder" / "0300").read_text() == "changed"
    assert (files / "folder" / "0301").read_text() == "301"
    assert (files / "run.sh").stat().st_mode & 0o7777 == 0o750
    assert (files / "run.sh").stat().st_mtime_ns == 981_173_106_123_456_789
    assert (files / "zz").samefile(files / "a")
    assert (files / "link").readlink() == Path("folder")
    assert (files / "folder" / "empty").is_dir()
    for name in trees.ODD_NAMES:
        assert Path(os.fsdecode(os.fsencode(files) + b"/" + name)).read_bytes() == name * 3
    sql = (tmp_path / "out" / "database.sql").read_bytes()
    rows = sql.partition(b"COPY public.devices")[2].partition(b"\\.\n")[0].splitlines()[1:]
    assert len(rows) == 499
    assert any(row.startswith(b"5\tchanged\t") for row in rows)
    assert any(row.startswith("6\tGerät 6".encode("latin-1")) for row in rows)
    assert b"4711\t0\t\\\\x00ff10" in sql
    assert (tmp_path / "out" / "settings").read_text() == '{"title": "acme"}'


def test_an_earlier_snapshot_of_version_2_is_read(tmp_path: Path) -> None:
    place = FIXTURES / "store-v2"
    (first,) = [name for name in _ids(place) if name.startswith("00000001-")]
    done = restored(place / "store", place / "key", tmp_path / "out", at=first)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "files" / "folder" / "0300").read_text() == "300"
    assert not (tmp_path / "out" / "files" / "new").exists()


def test_the_engine_of_today_reads_the_published_store_too(tmp_path: Path) -> None:
    place = FIXTURES / "store-v2"
    store, keys = FolderStore(place / "store"), Keys((place / "key").read_bytes())
    assert verify(Check(store=store, keys=keys)).findings == []
    with open_latest(store, keys, Listing.of(store)) as manifest:
        part = database_part(manifest)
        assert part is not None
        assert part.rows()["public.devices"] == 499
        assert part.large_object_list is not None
        texts = Texts(Reader(store, keys, packs=manifest.packs), keys.digest_key)
        for whose, frame in named_frames(part):
            assert len(texts.plain(frame, affects=whose)) == frame.size
    bring_back(Wish(store=store, keys=keys, files=tmp_path / "back"))
    assert (tmp_path / "back" / "folder" / "0300").read_text() == "changed"


def test_a_store_of_both_versions_is_read(tmp_path: Path) -> None:
    """A space whose backups were bundles before: ids are given by the app."""
    place = FIXTURES / "store-v1"
    shutil.copytree(place / "store", tmp_path / "store")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "f").write_text("now")
    store = FolderStore(tmp_path / "store")
    keys = Keys((place / "key").read_bytes())
    back_up(
        Order(store=store, keys=keys, files=Walk(tmp_path / "files"), backup_id="bkp-000002-x")
    )
    (old,) = [path.name for path in (tmp_path / "store" / "s").iterdir() if "bkp" in path.name]
    for at, name in (("latest", "f"), ("bkp-000002-x", "f"), (old, "d")):
        done = restored(tmp_path / "store", place / "key", tmp_path / at, at=at)
        assert done.returncode == 0, done.stderr
        assert [path.name for path in (tmp_path / at / "files").iterdir()] == [name]
    listing = Listing.of(store)
    with open_by_id(store, keys, listing, "bkp-000002-x") as manifest:
        assert manifest.name == "s/00000001"
    with pytest.raises(NotFoundError):
        open_by_id(store, keys, listing, "bkp-000003-x")


def test_what_the_engine_writes_today_is_read(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"k" * 32)
    files = tmp_path / "files"
    trees.fill(files, trees.seeded(1))
    store = FolderStore(tmp_path / "store")
    run(store, files)
    trees.change(files, trees.seeded(1))
    run(store, files)
    done = restored(tmp_path / "store", tmp_path / "key", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert trees.seen(tmp_path / "out" / "files") == trees.seen(files)


@pytest.mark.parametrize("version", ["store-v1", "store-v2"])
def test_damage_wrong_keys_and_full_folders_are_told_apart(
    tmp_path: Path, version: str
) -> None:
    place = FIXTURES / version
    (tmp_path / "other").write_bytes(b"o" * 32)
    assert restored(place / "store", tmp_path / "other", tmp_path / "out").returncode == 8
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    assert restored(place / "store", place / "key", tmp_path / "full").returncode == 3
    assert restored(place / "store", place / "key", tmp_path / "out", at="x").returncode == 2
    assert restored(tmp_path / "no", place / "key", tmp_path / "out").returncode == 2
    shutil.copytree(place / "store", tmp_path / "store")
    pack = max((tmp_path / "store" / "p").iterdir(), key=lambda path: path.stat().st_size)
    changed = bytearray(pack.read_bytes())
    changed[len(changed) // 2] ^= 1
    pack.write_bytes(bytes(changed))
    done = restored(tmp_path / "store", place / "key", tmp_path / "out")
    assert done.returncode == 7
    assert f"p/{pack.name}" in done.stderr


def test_a_removed_newest_manifest_is_damage(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"k" * 32)
    store = FolderStore(tmp_path / "store")
    (tmp_path / "files").mkdir()
    run(store, tmp_path / "files")
    run(store, tmp_path / "files")
    (tmp_path / "store" / "s" / "00000002").unlink()
    done = restored(tmp_path / "store", tmp_path / "key", tmp_path / "out")
    assert done.returncode == 7
    assert "s/00000002" in done.stderr


def _ids(place: Path) -> list[str]:
    """Ids of the store, from the clear headers."""
    found: list[str] = []
    for path in sorted((place / "store" / "s").iterdir()):
        text = path.read_bytes()
        found.append(text.partition(b'"backup_id":"')[2].partition(b'"')[0].decode())
    return found
