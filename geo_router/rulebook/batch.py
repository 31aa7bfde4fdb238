"""Many requests at once: CSV, JSON lines or Parquet in, the same rows with their answers out.

Rows are streamed: a million take as much memory as a thousand. A bad row becomes a row with an
error and stops nothing. Answers are unsigned: nobody orders a million spaces at once.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, cast

import msgspec

from geo_router import decide, explain, reading, router, texts
from geo_router.contract import DEEPEST, LARGEST_BODY
from geo_router.model import Decision, Refusal
from geo_router.rulebook import parquet
from geo_router.tables import Tables
from spaces.errors import FieldError, InvalidError
from spaces.jsonlimits import decode_strictly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO, TextIO

    from geo_router.model import Verdict

ADDED = ("decision", "refusal", "cluster", "azure_region", "rules", "error")
MOST_REMEMBERED = 20_000
"""Rows that were seen before are answered from memory; then memory starts anew."""
LONGEST_REMEMBERED = 256
"""Rows longer than this (characters, or bytes of a JSON line) are decided each time."""


class Row(NamedTuple):
    """What is added to a row, in the order of `ADDED`; `rules` is a tuple of ids."""

    decision: str
    refusal: str | None
    cluster: str | None
    azure_region: str | None
    rules: tuple[str, ...]
    error: str | None

    def cells(self) -> list[str]:
        """As cells of a CSV row."""
        return [
            self.decision,
            self.refusal or "",
            self.cluster or "",
            self.azure_region or "",
            ";".join(self.rules),
            self.error or "",
        ]


@dataclass(slots=True)
class Count:
    """How many rows were answered, and how many of them were bad."""

    rows: int = 0
    bad: int = 0

    def add(self, row: Row) -> None:
        """Count one answered row."""
        self.rows += 1
        self.bad += row.error is not None


@dataclass(slots=True)
class Batch:
    """Answers rows by the rules of one day."""

    rules: Tables
    today: str
    open_now: int = field(init=False)

    def __post_init__(self) -> None:
        self.open_now = router.mask_of(router.states_of(self.rules), "open")

    def run(self, source: Path, target: Path) -> Count:
        """Answer a file into another, by its suffix; the target appears when done."""
        kinds = {
            ".csv": self.csv_rows,
            ".jsonl": self.json_lines,
            ".parquet": self.parquet_rows,
        }
        kind = kinds.get(source.suffix.lower())
        if kind is None or target.suffix.lower() != source.suffix.lower():
            raise InvalidError(
                "the format is not known",
                where=f"{source.name} → {target.name}",
                remedy=f"Both files end in one of: {', '.join(kinds)}.",
            )
        part = target.with_name(f"{target.name}.part")
        try:
            with source.open("rb") as given, part.open("wb") as out:
                count = kind(given, out)
            part.replace(target)
        except OSError as error:
            raise InvalidError(
                f"the file cannot be used: {error.strerror}", where=str(error.filename)
            ) from error
        finally:
            part.unlink(missing_ok=True)
        return count

    def csv_rows(self, given: BinaryIO, out: BinaryIO) -> Count:
        """CSV with a header of field names; lists separated by `;`, an empty cell is not given."""
        with _text(given, "r") as lines, _text(out, "w") as answers:
            reader, writer = csv.reader(lines), csv.writer(answers, lineterminator="\n")
            header = _header(next(reader, list[str]()))
            writer.writerow([*header, *ADDED])
            count, seen = Count(), dict[tuple[str, ...], tuple[Row, list[str]]]()
            for cells in _rows(reader):
                if not cells and len(header) > 1:
                    continue  # an empty line is a row only where a row is one cell
                key = tuple(cells) or ("",)
                known = seen.get(key)
                if known is None:
                    row = self.answer_cells(header, key)
                    known = (row, row.cells())
                    if len(seen) >= MOST_REMEMBERED:
                        seen.clear()
                    if sum(map(len, key)) <= LONGEST_REMEMBERED:
                        seen[key] = known
                count.add(known[0])
                writer.writerow([*_fitted(header, key), *known[1]])
        return count

    def json_lines(self, given: BinaryIO, out: BinaryIO) -> Count:
        """One JSON request a line; the answer's members are added to it."""
        count, seen = Count(), dict[bytes, tuple[Row, bytes]]()
        for line in given:
            text = line.strip()
            if not text:
                continue
            known = seen.get(text)
            if known is None:
                known = self.answered_line(text)
                if len(seen) >= MOST_REMEMBERED:
                    seen.clear()
                if len(text) <= LONGEST_REMEMBERED:
                    seen[text] = known
            count.add(known[0])
            out.write(known[1])
        return count

    def parquet_rows(self, given: BinaryIO, out: BinaryIO) -> Count:
        """Parquet with columns of field names; needs its library."""
        count, seen = Count(), dict[tuple[object, ...], Row]()

        def answered(names: list[str], values: tuple[object, ...]) -> Row:
            row = seen.get(values)
            if row is None:
                row = self.answer(parquet.fields(names, values))
                if len(seen) >= MOST_REMEMBERED:
                    seen.clear()
                seen[values] = row
            count.add(row)
            return row

        parquet.rewrite(given, out, check_names=_header, answer=answered)
        return count

    def answer(self, request: object) -> Row:
        """The answer to a decoded request."""
        try:
            read, day = reading.read(self.rules, request)
        except reading.BadRequestError as bad:
            return _bad(bad.refusal, bad.errors)
        on = day or self.today
        verdict = decide.decide(self.rules, read, today=on, open_now=self.open_now)
        allowed = verdict.decision is Decision.ALLOWED and verdict.cluster is not None
        cluster = self.rules.clusters[verdict.cluster or 0] if allowed else None
        return Row(
            decision=verdict.decision.value,
            refusal=None if verdict.refusal is None else verdict.refusal.value,
            cluster=None if cluster is None else cluster.id,
            azure_region=None if cluster is None else cluster.azure_region,
            rules=_rules(verdict),
            error=None,
        )

    def answer_cells(self, header: list[str], cells: tuple[str, ...]) -> Row:
        """The answer to a CSV row."""
        if len(cells) != len(header):
            return _broken(f"{len(cells)} cells, {len(header)} are needed")
        return self.answer(
            {
                name: texts.field_of(name, cell, ";")
                for name, cell in zip(header, cells, strict=True)
                if cell.strip()
            }
        )

    def answered_line(self, line: bytes) -> tuple[Row, bytes]:
        """The answer to a JSON line, and the line with the answer's members added."""
        request, row = self.answer_line(line)
        own = cast("dict[str, object]", request) if isinstance(request, dict) else {}
        return row, msgspec.json.encode({**own, **row._asdict()}) + b"\n"

    def answer_line(self, line: bytes) -> tuple[object, Row]:
        """The request of a line and the answer to it."""
        if len(line) > LARGEST_BODY:
            return None, _broken(f"a request has at most {LARGEST_BODY} bytes")
        try:
            request = decode_strictly(line, max_depth=DEEPEST)
        except InvalidError as error:
            return None, _broken(str(error))
        return request, self.answer(request)


def _header(names: list[str]) -> list[str]:
    header = [name.strip() for name in names]
    unknown = [name for name in header if name not in reading.FIELDS]
    if not header or unknown or len(set(header)) != len(header):
        raise InvalidError(
            "the header is not one of request fields",
            where=", ".join(map(reading.echo, unknown)) or "header",
            remedy=f"Each once of: {', '.join(reading.FIELDS)}.",
        )
    return header


def _fitted(header: list[str], cells: tuple[str, ...]) -> list[str]:
    """The cells of a row in the header's width, so that what is added stands in its column."""
    kept = list(cells[: len(header)])
    return kept + [""] * (len(header) - len(kept))


def _rules(verdict: Verdict) -> tuple[str, ...]:
    if len(verdict.fired) == 1 and not verdict.evidence:
        return (verdict.fired[0].rule.id,)
    return tuple(dict.fromkeys(one.rule.id for one in explain.rules_read(verdict)))


def _bad(refusal: Refusal, errors: tuple[FieldError, ...]) -> Row:
    said = "; ".join(f"{error.pointer or '/'} {error.message}" for error in errors)
    return Row(Decision.REFUSED.value, refusal.value, None, None, (), said)


def _broken(why: str) -> Row:
    wrong = FieldError(pointer="", code="row", message=why)
    return _bad(Refusal.INVALID_INPUT, (wrong,))


def _rows(reader: Iterator[list[str]]) -> Iterator[list[str]]:
    """The rows; one that CSV cannot read (a cell of 128 KiB) is passed on as a row too long."""
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield [f"unreadable: {error}"] * (len(reading.FIELDS) + 1)


def _text(stream: BinaryIO, mode: str) -> TextIO:
    """Text whose wrong bytes survive the way through: the router names the cell they stand in."""
    encoding = "utf-8-sig" if mode == "r" else "utf-8"
    return io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="")
