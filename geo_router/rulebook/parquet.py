"""Batches in Parquet, where its library is installed (the extra `parquet`).

Columns are request fields, as text or in their own types: lists as lists, flags as booleans, samples
as a struct or map of lists, dates as dates; null is not given. Row groups are streamed.
"""

from __future__ import annotations

import importlib
from datetime import date
from typing import TYPE_CHECKING, Any, cast

from geo_router import texts
from spaces.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

    from geo_router.rulebook.batch import Row

ROWS_AT_ONCE = 20_000


def rewrite(
    given: BinaryIO,
    out: BinaryIO,
    *,
    check_names: Callable[[list[str]], object],
    answer: Callable[[list[str], tuple[Any, ...]], Row],
) -> None:
    """Copy a file with the answers' columns added; `answer` gets the names and a row's values.

    Raises `InvalidError` where the library is missing or the file is no Parquet file.
    """
    arrow, parquet = _library("pyarrow"), _library("pyarrow.parquet")
    try:
        source = parquet.ParquetFile(given)
        names = cast("list[str]", source.schema_arrow.names)
        check_names(names)
        schema = _schema(arrow, source.schema_arrow)
        with parquet.ParquetWriter(out, schema) as writer:
            for piece in source.iter_batches(batch_size=ROWS_AT_ONCE):
                rows = _rows(piece, len(names))
                answers = [answer(names, row) for row in rows]
                columns = list(piece.columns) + _added(arrow, schema, answers)
                writer.write_batch(arrow.record_batch(columns, schema=schema))
    except arrow.ArrowException as error:
        raise InvalidError(
            f"the file cannot be read as Parquet: {str(error).partition(chr(10))[0][:200]}"
        ) from error


def fields(names: list[str], values: tuple[Any, ...]) -> dict[str, object]:
    """A row as a request; a text is read as in a CSV cell."""
    return {
        name: _field(name, value)
        for name, value in zip(names, values, strict=True)
        if value is not None and value != ""
    }


def _field(name: str, value: object) -> object:
    match value:
        case str():
            return texts.field_of(name, value, ";")
        case tuple() if name == "measured_rtt":
            return {key: list(samples) for key, samples in cast("Any", value) if samples}
        case tuple():
            return list(cast("tuple[object, ...]", value))
        case date():
            return value.isoformat()[:10]
        case _:
            return value


def _rows(piece: Any, width: int) -> Iterator[tuple[Any, ...]]:  # noqa: ANN401 - of the optional library
    """The rows of a batch as tuples that can be remembered."""
    if not width:
        return iter([()] * piece.num_rows)
    columns = [[_frozen(value) for value in column.to_pylist()] for column in piece.columns]
    return zip(*columns, strict=True)


def _frozen(value: object) -> object:
    """Lists as tuples, structs and maps as tuples of pairs."""
    match value:
        case list():
            return tuple(_frozen(one) for one in cast("list[object]", value))
        case tuple():
            return tuple(_frozen(one) for one in cast("tuple[object, ...]", value))
        case dict():
            pairs = cast("dict[str, object]", value).items()
            return tuple((name, _frozen(one)) for name, one in pairs)
        case _:
            return value


def _schema(arrow: Any, given: Any) -> Any:  # noqa: ANN401 - of the optional library
    text = arrow.string()
    added = [
        arrow.field(name, text) for name in ("decision", "refusal", "cluster", "azure_region")
    ]
    added += [arrow.field("rules", arrow.list_(text)), arrow.field("error", text)]
    return arrow.schema([*given, *added])


def _added(arrow: Any, schema: Any, answers: list[Row]) -> list[Any]:  # noqa: ANN401 - likewise
    first = len(schema) - 6
    columns = zip(*answers, strict=True) if answers else ((),) * 6
    return [
        arrow.array(list(column), type=schema.field(first + at).type)
        for at, column in enumerate(columns)
    ]


def _library(name: str) -> Any:  # noqa: ANN401 - of the optional library
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InvalidError(
            "Parquet needs a library that is not installed",
            where="pyarrow",
            remedy="Install it (pip install pyarrow), or use .csv or .jsonl.",
        ) from error
