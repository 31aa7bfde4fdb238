"""Folders with everything a folder can hold, changed at random, and compared name by name."""

# ruff: noqa: PTH103, PTH115, PTH208, PTH211 — odd names are bytes
from __future__ import annotations

import os
import stat
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ODD_NAMES = (
    b"plain.txt",
    b" leading and trailing ",
    b"new\nline",
    b"back\\slash",
    b"quote'\"`$HOME",
    b"100%",
    b"%41",
    b"-rf",
    "ünïcödé-\U0001f600".encode(),
    b"latin1-\xe9\xff",
    b"a",
    b"a-b",
    b"a.b",
    b"~",
    b"\x01\x7f",
)


def seeded(seed: int) -> Random:
    """Random numbers that come again."""
    return Random(seed)  # noqa: S311 — a test's


def fill(root: Path, random: Random) -> None:
    """Odd names, all kinds of entries, sizes around every limit."""
    root.mkdir(parents=True)
    for name in ODD_NAMES:
        _write(os.fsencode(root) + b"/" + name, random.randbytes(random.randrange(2000)))
    folder = os.fsencode(root) + b"/a dir/\xff deep/er"
    os.makedirs(folder)
    for name in ODD_NAMES:
        _write(folder + b"/" + name, name * 3)
    (root / "a dir" / "empty" / "empty too").mkdir(parents=True)
    for size in (
        0,
        1,
        (1 << 19) + 1,
        1 << 20,
        (1 << 20) + 1,
        4 << 20,
        (4 << 20) + 1,
        9_000_000,
    ):
        (root / f"size-{size}").write_bytes(random.randbytes(size))
    (root / "same as 1").write_bytes((root / "size-1").read_bytes())
    (root / "a-folder").mkdir()
    (root / "a-folder" / "copy of 9M").write_bytes((root / "size-9000000").read_bytes())
    os.link(root / "size-1048577", root / "zz second name")
    os.symlink("size-1", root / "link")
    os.symlink(b"nowhere\xff/..", os.fsencode(root) + b"/dangling")
    os.symlink("a dir", root / "link to folder")
    os.mkfifo(root / "pipe", 0o640)
    (root / "closed").mkdir()
    (root / "closed" / "secret").write_text("x")
    (root / "closed" / "secret").chmod(0o400)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o6755)
    os.utime(root / "plain.txt", ns=(1, 981_173_106_123_456_789))
    os.utime(root / "a dir" / "empty", ns=(1, 1_000_000_000))
    (root / "closed").chmod(0o550)


def change(root: Path, random: Random) -> None:
    """A day: some files edited, renamed, removed, new."""
    files = sorted(path for path in root.rglob("f*.bin") if path.is_file())
    for path in random.sample(files, min(3, len(files))):
        match random.randrange(4):
            case 0:
                path.unlink()
            case 1:
                path.rename(path.with_name(f"f{random.randrange(10**9)}.bin"))
            case 2:
                data = bytearray(path.read_bytes())
                at = random.randrange(len(data) + 1)
                data[at:at] = random.randbytes(10)
                path.write_bytes(bytes(data))
            case _:
                path.chmod(random.choice([0o600, 0o644, 0o755]))
    for _ in range(3):
        folder = root / f"d{random.randrange(5)}"
        folder.mkdir(exist_ok=True)
        size = random.choice([0, 10, 5000, 300_000, 1_500_000, 5_000_000])
        (folder / f"f{random.randrange(10**9)}.bin").write_bytes(random.randbytes(size))


def seen(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything a restore has to bring back, by path."""
    found: dict[bytes, tuple[object, ...]] = {}
    start = os.fsencode(root)
    paths = [start]
    while paths:
        path = paths.pop()
        status = os.lstat(path)
        kind = stat.S_IFMT(status.st_mode)
        mode = 0 if kind == stat.S_IFLNK else stat.S_IMODE(status.st_mode)
        content: object = None
        if kind == stat.S_IFREG:
            with open(path, "rb") as file:  # noqa: PTH123 — bytes
                content = file.read()
        elif kind == stat.S_IFLNK:
            content = os.readlink(path)
        elif kind == stat.S_IFDIR:
            paths += [path + b"/" + name for name in os.listdir(path)]
        found[path[len(start) :]] = (
            kind,
            mode,
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            content,
            status.st_nlink if kind == stat.S_IFREG else 0,
        )
    return found


def _write(path: bytes, data: bytes) -> None:
    with open(path, "wb") as file:  # noqa: PTH123 — bytes
        file.write(data)
