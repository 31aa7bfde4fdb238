"""`kpax route`: one option for each field, the exit codes, and the stack's answer where one runs."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import msgspec
import pytest
from typer.testing import CliRunner

from geo_router import contract, wire
from geo_router.cli import route_app
from spaces import client
from tests.geo_router.builders import a_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from click.testing import Result


@pytest.fixture(autouse=True)
def _no_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KPAX_API_URL", raising=False)
    monkeypatch.setattr(client, "_resolvers", [])


def kpax_route(*arguments: str, stdin: str | bytes | None = None) -> Result:
    return CliRunner().invoke(route_app, arguments, input=stdin)


def answer_of(result: Result) -> dict:
    answer = json.loads(result.stdout)
    msgspec.convert(answer, wire.RouteAnswer)
    return answer


@pytest.mark.parametrize(
    ("arguments", "code", "decision", "refusal"),
    [
        (["--country", "DE"], 0, "allowed", None),
        (["--country", "CU"], 3, "refused", "sanctions"),
        (["--country", "TR"], 3, "refused", "condition-required"),
        (["--country", "DE", "--placement", "france=full"], 4, "queued", "no-capacity"),
        (["--country", "KR", "--sector", "public"], 5, "needs_review", "localisation"),
        (["--country", "DEU"], 2, "refused", "unknown-country"),
        (["--country", "DE", "--sector", "mining"], 2, "refused", "invalid-input"),
        ([], 2, "refused", "invalid-input"),
    ],
)
def test_the_exit_code_follows_the_outcome_and_json_is_always_the_object(
    arguments: list[str], code: int, decision: str, refusal: str | None
) -> None:
    result = kpax_route(*arguments, "--json")
    answer = answer_of(result)
    assert result.exit_code == code
    assert (answer["decision"], answer["refusal"], answer["token"]) == (decision, refusal, None)
    spoken = kpax_route(*arguments)
    assert spoken.exit_code == code
    assert answer["summary"] in (spoken.stderr if code == 2 else spoken.stdout)


OPTIONS = {
    "country": (["--country", "CA"], "CA"),
    "subdivision": (["--subdivision", "ca-qc"], "CA-QC"),
    "sector": (["--sector", "health"], "health"),
    "coordinates": (["--lat", "48.8", "--lon", "2"], [48.8, 2.0]),
    "data_subject_countries": (["--subjects", "DE, BR"], ["BR", "DE"]),
    "billing_country": (["--billing-country", "fr"], "FR"),
    "ip_country": (["--ip-country", "US"], "US"),
    "certifications": (["--require", "soc-2,iso-27001"], ["iso-27001", "soc-2"]),
    "assertions": (["--assert", "transfer_assessment"], ["transfer_assessment"]),
    "withdrawn": (["--withdraw", "transfer_clauses"], ["transfer_clauses"]),
    "pin": (["--pin", "England"], "uk"),
    "exclude": (["--exclude", "us,in"], ["india", "united-states"]),
    "prefer": (["--prefer", "latency"], "latency"),
    "strict_residency": (["--strict"], True),
    "allow_fallback": (["--allow-fallback"], True),
    "accept_superseded": (["--accept-superseded"], True),
    "measured_rtt": (["--measured-rtt", "uk=12,uk=11.5,gb=13"], None),
    "as_of": (["--as-of", "2026-01-02"], "2026-01-02"),
    "data_kinds": (["--data-kinds", "minors"], ["minors"]),
}


def test_there_is_an_option_for_every_field_of_the_request() -> None:
    assert set(OPTIONS) == set(wire.RouteRequest.__struct_fields__)


@pytest.mark.parametrize("field", [f for f in OPTIONS if f not in ("country", "measured_rtt")])
def test_an_option_means_what_the_field_means(field: str) -> None:
    arguments, value = OPTIONS[field]
    by_option = answer_of(kpax_route("--country", "CA", *arguments, "--json"))
    request = {"country": "CA", field: value}
    by_file = answer_of(kpax_route("--request", "-", "--json", stdin=json.dumps(request)))
    assert by_option == by_file
    assert by_option["request_hash"] is not None
    assert (
        by_option["request_hash"]
        != answer_of(kpax_route("--country", "CA", "--json"))["request_hash"]
    )


def test_samples_of_a_cluster_are_gathered_and_two_names_of_one_are_refused() -> None:
    samples = "uk=3,france=9,uk=4,france=9,uk=5,france=9,canada=99,canada=99,canada=99"
    found = answer_of(kpax_route("--country", "CH", "--measured-rtt", samples, "--json"))
    assert (found["cluster"], found["ranked"][0]["rtt_ms"]) == ("uk", 4)
    twice = kpax_route("--country", "CH", "--measured-rtt", "uk=3,gb=4", "--json")
    assert (twice.exit_code, answer_of(twice)["refusal"]) == (2, "invalid-input")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--country", "DE", "--lat", "north", "--lon", "2"],
        ["--country", "DE", "--lat", "nan", "--lon", "2"],
        ["--country", "DE", "--lat", "48"],
        ["--country", "DE", "--subjects", "FR,,BR"],
        ["--country", "DE", "--require", ""],
        ["--country", "DE", "--measured-rtt", "uk"],
        ["--country", "DE", "--measured-rtt", "uk=fast"],
        ["--country", "DE", "--placement", "france"],
        ["--country", "DE", "--metric", "miles"],
        ["--country", "DE", "--request", "-"],
        ["--request", "/there/is/no/such/file"],
    ],
)
def test_bad_options_exit_2_with_the_object(arguments: list[str]) -> None:
    result = kpax_route(*arguments, "--json", stdin="{}")
    assert result.exit_code == 2
    answer = answer_of(result)
    assert answer["decision"] == "refused"
    assert answer["errors"]


@pytest.mark.parametrize("stdin", ["", "{", "[1]", '{"country":"DE","country":"FR"}', b"\xff"])
def test_a_file_that_is_no_request_exits_2_with_the_object(stdin: str | bytes) -> None:
    result = kpax_route("--request", "-", "--json", stdin=stdin)
    assert (result.exit_code, answer_of(result)["refusal"]) == (2, "invalid-input")


def test_an_unknown_option_exits_2() -> None:
    assert kpax_route("--citizenship", "FR").exit_code == 2


def test_the_whole_explanation_names_the_sources_and_what_would_open_a_cluster() -> None:
    told = kpax_route("--country", "DE", "--explain").stdout
    assert "https://eur-lex.europa.eu/eli/reg/2016/679/oj" in told
    assert "by eu-gdpr; opens with vendor_dpf" in told
    assert "not legal advice" in told


def test_help_has_an_example() -> None:
    told = kpax_route("--help")
    assert told.exit_code == 0
    assert "Example: kpax route" in told.stdout


class _Stack(BaseHTTPRequestHandler):
    """The router's endpoint as a running stack serves it."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/api/v1/route"
        status, headers, answer = contract.answer(
            body, self.headers["Content-Type"], now=datetime.now(UTC), key=a_key()
        )
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


@pytest.fixture
def _stack(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Stack)
    serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    serving.start()
    monkeypatch.setenv("KPAX_API_URL", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    serving.join()
    server.server_close()


@pytest.mark.usefixtures("_stack")
def test_a_running_stack_is_asked_and_its_answer_is_signed() -> None:
    allowed = kpax_route("--country", "DE", "--json")
    assert (allowed.exit_code, answer_of(allowed)["decision"]) == (0, "allowed")
    assert answer_of(allowed)["token"]
    for arguments, code in (
        (["--country", "CU"], 3),
        (["--country", "TR"], 3),
        (["--country", "KR", "--sector", "public"], 5),
        (["--country", "DEU"], 2),
        (["--country", "DE", "--pin", "mars"], 2),
    ):
        over_http = kpax_route(*arguments, "--json")
        assert over_http.exit_code == code
        assert "status" not in answer_of(over_http)


def test_a_stack_that_does_not_answer_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KPAX_API_URL", "http://127.0.0.1:9")
    result = kpax_route("--country", "DE", "--json")
    assert result.exit_code == 6
    assert json.loads(result.stdout)["status"] == 503
