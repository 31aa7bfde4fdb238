"""A log line is an event with fields, and never holds a secret; counters start at nought."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from spaces import telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

type Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    logger = logging.getLogger("kpax")
    before = (logger.handlers, logger.level, logger.propagate)
    stream = io.StringIO()
    telemetry.set_up_logging(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]
    logger.handlers, logger.level, logger.propagate = before


log = logging.getLogger("kpax.test")


def test_a_line_is_an_event_and_its_fields(lines: Lines) -> None:
    log.info("step.committed", extra={"space": "s-7f2", "step": "deploy", "took_ms": 41})
    [line] = lines()
    assert line.pop("at").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "kpax.test",
        "event": "step.committed",
        "space": "s-7f2",
        "step": "deploy",
        "took_ms": 41,
    }


def test_bound_fields_stand_on_every_line_inside(lines: Lines) -> None:
    with telemetry.bound(space="s-1", op=None):
        with telemetry.bound(step="deploy"):
            log.info("inner.done", extra={"step": "own"})
        log.info("outer.done")
    log.info("nothing.bound")
    inner, outer, none = lines()
    assert (inner["space"], inner["step"]) == ("s-1", "own")
    assert (outer["space"], "step" in outer, "op" in outer) == ("s-1", False, False)
    assert "space" not in none


def test_a_line_stays_one_line_whatever_it_is_about(lines: Lines) -> None:
    log.info("odd.values", extra={"text": "a\nb\u2028c", "thing": object(), "more": [1, None]})
    [line] = lines()
    assert line["text"] == "a\nb\u2028c"
    assert line["thing"].startswith("<object")
    assert line["more"] == [1, None]


@pytest.mark.parametrize(
    "field",
    [
        {"password": "S3cret"},
        {"db_password": "S3cret"},
        {"token": "S3cret"},
        {"settings": {"database": {"password": "S3cret"}}},
        {"parts": [{"api_key": "S3cret"}]},
        {"storage": "AccountName=kx;AccountKey=S3cret;BlobEndpoint=http://x"},
        {"bus": "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=S3cret"},
        {"url": "https://x.example/blob?sv=1&sig=S3cret&se=2"},
        {"url": "http://x.example/console?code=S3cret"},
        {"url": "postgresql://kpax_app:S3cret@127.0.0.1/app"},
        {"header": "Bearer S3cret.S3cret"},
        {"things": ["x", "Bearer S3cret"]},
    ],
)
def test_a_secret_is_masked_wherever_it_stands(lines: Lines, field: dict[str, Any]) -> None:
    log.info("something.happened", extra=field)
    assert "S3cret" not in json.dumps(lines())
    assert "***" in json.dumps(lines())


def test_json_lines_are_written_only_where_they_are_asked_for() -> None:
    logger = logging.getLogger("kpax")
    before = list(logger.handlers), logger.propagate
    try:
        telemetry.set_up_logging_as_asked({})
        assert (list(logger.handlers), logger.propagate) == before
        telemetry.set_up_logging_as_asked({"KPAX_LOGS": "json"})
        assert isinstance(logger.handlers[0].formatter, telemetry.JsonFormatter)
    finally:
        logger.handlers, logger.propagate = before


def test_an_exceptions_text_is_masked_too(lines: Lines) -> None:
    try:
        int("AccountKey=S3cret;")
    except ValueError:
        log.exception("call.failed")
    [line] = lines()
    assert line["level"] == "error"
    assert "ValueError: invalid literal" in line["error"]
    assert "AccountKey=***;" in line["error"]


def test_setting_up_twice_does_not_double_the_lines(lines: Lines) -> None:
    stream = io.StringIO()
    telemetry.set_up_logging(stream)
    telemetry.set_up_logging(stream)
    log.info("once.only")
    assert len(stream.getvalue().splitlines()) == 1


def test_counts_start_at_nought_and_add_up() -> None:
    telemetry.reset_counts()
    assert set(telemetry.counts().values()) == {0}
    telemetry.count(telemetry.BUS_MESSAGES, 3)
    telemetry.count(telemetry.BUS_MESSAGES)
    assert telemetry.counts()[telemetry.BUS_MESSAGES] == 4
    assert telemetry.counts()[telemetry.TABLE_TRANSACTIONS] == 0
