"""The console's session: the key once, then a cookie that opens nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from spaces import session
from tests.fakes import START


def given() -> str:
    return session.cookie("the key", now=START, secure=False).split(";")[0]


def test_a_session_is_good_until_it_ends() -> None:
    cookie = given()
    assert session.is_good(cookie, "the key", now=START)
    assert session.is_good(f"other=1; {cookie}", "the key", now=START)
    assert not session.is_good(cookie, "the key", now=START + timedelta(hours=13))
    assert not session.is_good(cookie, "another key", now=START)


@pytest.mark.parametrize(
    "header",
    ["", "kpax_console=", "kpax_console=1.2", "kpax_console=99999999999.x", "kpax_console=²²²²²²²².x",
     "kpax_console=9999999999999999999999.x", "\x00", "kpax_console"],
)  # fmt: skip
def test_no_other_cookie_is_good(header: str) -> None:
    assert not session.is_good(header, "the key", now=START)


def test_any_change_of_the_cookie_is_found() -> None:
    cookie = given()
    start = cookie.index("=") + 1
    for at in range(start, len(cookie)):
        other = "0" if cookie[at] != "0" else "1"
        changed = cookie[:at] + other + cookie[at + 1 :]
        assert not session.is_good(changed, "the key", now=START), at


def test_the_cookie_stays_with_the_console() -> None:
    attributes = session.cookie("k", now=START, secure=True)
    for wanted in ("HttpOnly", "SameSite=Strict", "Path=/console", "Secure"):
        assert wanted in attributes
