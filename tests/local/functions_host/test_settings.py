from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from local.errors import StackError
from local.functions_host.settings import connection_string, read_host_json, resolved, span_s


def _host_json(**more: object) -> str:
    return json.dumps({"version": "2.0", **more})


def test_an_empty_host_json_has_the_defaults_of_the_real_host() -> None:
    settings = read_host_json(_host_json())
    assert settings.route_prefix == "api"
    assert settings.auto_complete
    assert settings.max_renewal_s == 300
    assert settings.function_timeout_s == 1800
    assert settings.max_concurrent_calls % 16 == 0


def test_host_json_is_obeyed() -> None:
    settings = read_host_json(
        _host_json(
            functionTimeout="00:00:02.5",
            logging={"logLevel": {"default": "Warning"}},
            extensions={
                "http": {"routePrefix": ""},
                "serviceBus": {
                    "maxConcurrentCalls": 3,
                    "autoCompleteMessages": False,
                    "maxAutoLockRenewalDuration": "00:01:00",
                },
            },
        )
    )
    assert settings.route_prefix == ""
    assert settings.function_timeout_s == 2.5
    assert settings.log_level == logging.WARNING
    assert settings.max_concurrent_calls == 3
    assert not settings.auto_complete
    assert settings.max_renewal_s == 60


def test_a_function_timeout_of_minus_one_is_none_at_all() -> None:
    assert read_host_json(_host_json(functionTimeout="-1")).function_timeout_s is None


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("{", "not JSON"),
        ("[]", "2.0"),
        ('{"version": "1.0"}', "2.0"),
        (_host_json(functionTimeout="ten minutes"), "functionTimeout"),
        (_host_json(extensions=[]), "extensions"),
        (
            _host_json(extensions={"serviceBus": {"maxConcurrentCalls": 0}}),
            "maxConcurrentCalls",
        ),
        (_host_json(logging={"logLevel": {"default": "Loud"}}), "logLevel"),
    ],
)
def test_a_malformed_host_json_is_refused_by_name(text: str, word: str) -> None:
    with pytest.raises(StackError, match=word):
        read_host_json(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00:30", 30),
        ("01:02:03", 3723),
        ("00:00:00.25", 0.25),
        ("1.00:00:01", 86_401),
        ("24:00:00", 24 * 86_400),  # the first part counts days from 24 on
        ("00:60:00", None),
        ("nonsense", None),
    ],
)
def test_time_spans_are_read_as_dotnet_reads_them(text: str, seconds: float | None) -> None:
    assert span_s(text) == seconds


def test_settings_between_percent_signs_are_replaced() -> None:
    assert resolved("a-%X%-%Y%", {"X": "1", "Y": "2"}, where="f") == "a-1-2"


def test_a_missing_setting_is_named_with_its_function() -> None:
    with pytest.raises(StackError, match=r"Function 'f': the app setting 'NIGHT'"):
        resolved("%NIGHT%", {"NIGHT": ""}, where="Function 'f'")


def test_a_connection_is_found_with_and_without_the_prefix() -> None:
    assert connection_string("Bus", {"Bus": "x"}, where="f") == "x"
    assert connection_string("Bus", {"AzureWebJobsBus": "y"}, where="f") == "y"


@pytest.mark.parametrize(
    ("environ", "word"),
    [({}, "'Bus' is not set"), ({"Bus__fullyQualifiedNamespace": "x"}, "managed identity")],
)
def test_a_connection_without_a_string_is_refused(environ: dict[str, str], word: str) -> None:
    with pytest.raises(StackError, match=word):
        connection_string("Bus", environ, where="Function 'f'")


def test_the_project_s_own_host_json_is_obeyed() -> None:
    project = Path(__file__).resolve().parents[3]
    settings = read_host_json((project / "host.json").read_text(encoding="utf-8"))
    assert settings.route_prefix == ""
    assert settings.max_concurrent_calls == 16
    assert settings.function_timeout_s == 600
