"""Who calls, how often they may, and what they take for an answer."""

from __future__ import annotations

import pytest

from spaces import callers
from spaces.accept import takes_json
from spaces.errors import ThrottledError


@pytest.fixture(autouse=True)
def _full() -> None:
    callers.forget()


@pytest.mark.parametrize(
    ("forwarded", "hops", "address"),
    [
        ("192.0.2.7", 1, "192.0.2.7"),
        ("192.0.2.7:4711", 1, "192.0.2.7"),
        ("[2001:db8::7]:443", 1, "2001:db8::7"),
        ("2001:db8::7", 1, "2001:db8::7"),
        ("::ffff:192.0.2.7", 1, "192.0.2.7"),
        ("198.51.100.9, 192.0.2.7", 1, "192.0.2.7"),
        ("203.0.113.1, 198.51.100.9 , 192.0.2.7", 2, "198.51.100.9"),
        ("192.0.2.7", 2, "192.0.2.7"),
        ("192.0.2.7", 0, None),
        ("", 1, None),
        ("192.0.2.7,", 1, None),
        ("unknown", 1, None),
        ("1.2.3.4.5", 1, None),
        ("'; drop table", 1, None),
    ],
)
def test_the_address_is_what_our_own_proxy_saw(
    forwarded: str, hops: int, address: str | None
) -> None:
    found = callers.address_of({"x-forwarded-for": forwarded}, hops=hops)
    assert (None if found is None else str(found)) == address


def test_neighbours_share_a_bucket_and_others_do_not() -> None:
    def near(text: str) -> str:
        return callers.neighbourhood(callers.address_of({"x-forwarded-for": text}, hops=1))

    assert near("192.0.2.7") == near("192.0.2.200") != near("192.0.3.7")
    assert near("2001:db8:1:2::1") == near("2001:db8:1:2:ffff::9") != near("2001:db8:1:3::1")
    assert near("") == near("nobody") == "unknown"


def test_a_bucket_is_empty_for_its_own_callers_only() -> None:
    for _ in range(3):
        callers.limit("a", per_min=3)
    with pytest.raises(ThrottledError) as caught:
        callers.limit("a", per_min=3)
    assert 0 < caught.value.retry_after_s <= 20
    callers.limit("b", per_min=3)


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("", True),
        ("*/*", True),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("text/html,application/xhtml+xml,*/*;q=0.8", True),
        ("application/*;q=0.1", True),
        ("application/json;q=high", True),
        ("text/html", False),
        ("application/xml, text/*", False),
        ("application/json;q=0", False),
        ("application/json;q=0, */*", False),
        ("*/*;q=0", False),
        ("application/json;q=nan", False),
        (",;,", False),
    ],
)
def test_json_is_taken_where_the_closest_range_says_so(header: str, taken: bool) -> None:
    assert takes_json(header) is taken
