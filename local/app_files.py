"""Notices when the app's files change: those that are deployed, as `.funcignore` has it.

The folder is looked at again and again; that costs a few milliseconds and works everywhere. A
change is told once the files have been still from one look to the next, as editors and `git`
write several files one after another.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_IGNORE_FILE = ".funcignore"
Stamps = dict[str, tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the file: `!` takes files back in, a slash at the end means folders alone."""

    pattern: str
    takes_in: bool
    folders_only: bool
    from_root: bool

    def covers(self, path: str, *, is_folder: bool) -> bool:
        """Whether this path, relative to the app, is meant."""
        if self.folders_only and not is_folder:
            return False
        name = path if self.from_root else path.rsplit("/", 1)[-1]
        # A star does not reach over a slash.
        return name.count("/") == self.pattern.count("/") and fnmatchcase(name, self.pattern)


def read_rules(text: str) -> list[Rule]:
    """The rules in the text of a `.funcignore`, in order; the last one that covers a path counts."""
    lines = (line.strip() for line in text.splitlines())
    return [_rule(line) for line in lines if line and not line.startswith("#")]


def _rule(line: str) -> Rule:
    body = line.removeprefix("!")
    bare = body.strip("/")
    return Rule(
        bare,
        takes_in=line.startswith("!"),
        folders_only=body.endswith("/"),
        from_root=body.startswith("/") or "/" in bare,
    )


class Edits:
    """Looks at the files of an app; `seen` says which have changed since it was last told."""

    def __init__(self, app: Path) -> None:
        self._app = app
        self._told = self._before = self._stamps()

    def seen(self) -> list[str]:
        """Paths that are new, gone or different, sorted; empty while files are still changing."""
        now = self._stamps()
        is_still, self._before = now == self._before, now
        if not is_still or now == self._told:
            return []
        told, self._told = self._told, now
        return sorted(path for path in told | now if told.get(path) != now.get(path))

    def _stamps(self) -> Stamps:
        try:
            rules = read_rules((self._app / _IGNORE_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            rules = []
        return dict(_walk(self._app, "", rules))


def _walk(
    folder: Path, prefix: str, rules: Sequence[Rule]
) -> Iterator[tuple[str, tuple[int, int, int]]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:  # gone while we looked
        return
    for entry in entries:
        path, is_folder = prefix + entry.name, entry.is_dir()
        if _is_left_out(path, is_folder=is_folder, rules=rules):
            continue
        if is_folder:
            yield from _walk(Path(entry.path), f"{path}/", rules)
            continue
        try:
            found = entry.stat()
        except OSError:  # likewise
            continue
        yield path, (found.st_mtime_ns, found.st_size, found.st_ino)


def _is_left_out(path: str, *, is_folder: bool, rules: Sequence[Rule]) -> bool:
    left_out = False
    for rule in rules:
        if rule.covers(path, is_folder=is_folder):
            left_out = not rule.takes_in
    return left_out
