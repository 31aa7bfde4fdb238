"""The network's country: from an operator's file, for one answer, and never kept."""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
from ipaddress import ip_address
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from geo_router import contract, evidence, signed
from geo_router.model import NO_EVIDENCE, Evidence
from tests.geo_router.builders import NOW, a_key, ask
from tests.geo_router.mmdb import a_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PARIS, TEHRAN = ip_address("192.0.2.1"), ip_address("198.51.100.1")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    evidence._reader.cache_clear()
    yield
    evidence._reader.cache_clear()


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """A library in the place of the optional one: whatever file is opened holds these records."""
    held: dict[str, object] = {
        "192.0.2.1": {"country": {"iso_code": "FR"}},
        "198.51.100.1": {"country": {"iso_code": "IR"}},
        "192.0.2.2": {"country_code": "de", "country": "Germany"},
        "192.0.2.3": {"continent": {"code": "EU"}},
        "192.0.2.4": "junk",
    }

    class Reader:
        def get(self, address: str) -> object:
            assert isinstance(address, str)
            if ":" in address:
                raise ValueError("version 6 in a file of version 4")
            if address == "192.0.2.99":
                raise KeyError("damaged")
            return held.get(address)

    library = SimpleNamespace(open_database=lambda name: Reader())
    monkeypatch.setitem(sys.modules, "maxminddb", library)
    return held


def look(address: object, path: Path | None, *, outranks: bool = True) -> Evidence:
    return evidence.look_up(path, address, outranks=outranks)  # pyright: ignore[reportArgumentType]


def test_without_a_file_or_an_address_nobody_looks(tmp_path: Path) -> None:
    assert look(PARIS, None) == look(None, tmp_path) == NO_EVIDENCE


@pytest.mark.usefixtures("records")
def test_a_record_gives_a_code_and_what_is_none_gives_nothing(tmp_path: Path) -> None:
    assert look(PARIS, tmp_path) == Evidence(country="FR", source="address", outranks=True)
    for text, code in (
        ("192.0.2.2", "DE"),
        ("192.0.2.3", None),
        ("192.0.2.4", None),
        ("10.0.0.1", None),
        ("2001:db8::1", None),
    ):
        assert look(ip_address(text), tmp_path).country == code
        assert look(ip_address(text), tmp_path).source == "address"


@pytest.mark.usefixtures("records")
def test_a_damaged_file_is_said_to_be_unavailable_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "kpax.geo_router"):
        assert look(ip_address("192.0.2.99"), tmp_path).source == "unavailable"
    assert [record.getMessage() for record in caplog.records] == ["ip_database.unreadable"]
    assert "192.0.2.99" not in json.dumps(vars(caplog.records[0]), default=str)


def test_the_optional_library_reads_a_real_file_and_its_absence_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "countries.mmdb"
    path.write_bytes(a_database({"192.0.2.0/24": "FR", "198.51.100.0/24": "IR"}))
    with caplog.at_level(logging.ERROR, "kpax.geo_router"):
        found = [look(address, path) for address in (PARIS, TEHRAN, ip_address("10.0.0.1"))]
    if importlib.util.find_spec("maxminddb") is None:
        assert {one.source for one in found} == {"unavailable"}
        assert "maxminddb" in str(vars(caplog.records[0])["reason"])
    else:
        assert [one.country for one in found] == ["FR", "IR", None]
        assert {one.source for one in found} == {"address"}


def settled(request: dict[str, Any], given: Evidence) -> dict[str, Any]:
    body = json.dumps(request).encode()
    return contract.decide(body, "application/json", now=NOW, key=a_key(), evidence=given).body


def test_a_network_abroad_is_a_warning_and_a_sanctioned_one_is_for_a_person() -> None:
    near = settled({"country": "DE"}, Evidence(country="DE", source="address"))
    assert near["ip_evidence"] == {"country": "DE", "source": "address"}
    assert "ip-country-differs" not in near["warnings"]
    far = settled({"country": "DE"}, Evidence(country="BR", source="address"))
    assert "ip-country-differs" in far["warnings"]
    assert (far["cluster"], far["request_hash"]) == (near["cluster"], near["request_hash"])
    stopped = settled({"country": "DE"}, Evidence(country="IR", source="address"))
    assert (stopped["decision"], stopped["refusal"]) == ("needs_review", "location-conflict")
    assert stopped["token"] is None


def test_a_stranger_does_not_choose_what_speaks_against_them() -> None:
    request = {"country": "DE", "ip_country": "DE"}
    stranger = Evidence(country="IR", source="address", outranks=True)
    assert settled(request, stranger)["decision"] == "needs_review"
    service = Evidence(country="IR", source="address", outranks=False)
    told = settled(request, service)
    assert (told["decision"], told["ip_evidence"]["source"]) == ("allowed", "request")


@pytest.mark.parametrize("source", ["none", "unavailable", "address"])
def test_no_evidence_is_recorded_as_such(source: Any) -> None:
    told = settled({"country": "DE"}, Evidence(source=source))
    assert told["ip_evidence"] == {"country": None, "source": source}
    assert told["decision"] == "allowed"
    unknown = settled({"country": "DE"}, Evidence(country="ZZ", source="address"))
    assert unknown["ip_evidence"] == {"country": None, "source": "address"}
    assert ask("DE")["ip_evidence"] == {"country": None, "source": "none"}


def test_the_token_is_of_the_request_as_it_was_sent() -> None:
    told = settled({"country": "DE"}, Evidence(country="BR", source="address"))
    decision = signed.verify(
        told["token"], request={"country": "DE"}, keys=a_key().public, now=NOW
    )
    assert "ip_country" not in decision.request
