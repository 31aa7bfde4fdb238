"""The frame of our pages: who sees them, and what no page may carry."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import azure.functions as func
import pytest

from spaces import html, session
from tests.builders import some_settings

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CONFIG = some_settings()
PATH = "/console/routing"


def a_request(query: str = "", scheme: str = "http", **headers: str) -> func.HttpRequest:
    return func.HttpRequest(
        method="GET",
        url=f"{scheme}://127.0.0.1:7071{PATH}{query}",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=b"",
    )


def a_cookie(now: datetime = NOW, key: str = CONFIG.api_key) -> str:
    return session.cookie(key, now=now, secure=False).split(";")[0]


def passed(request: func.HttpRequest) -> func.HttpResponse | None:
    return html.gate(request, CONFIG, now=NOW, path=PATH)


def test_a_page_opens_with_the_session_or_the_key() -> None:
    assert passed(a_request(cookie=a_cookie())) is None
    assert passed(a_request(X_Functions_Key=CONFIG.api_key)) is None


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"cookie": "kpax_console="},
        {"cookie": "kpax_console=99999999999.00"},
        {"cookie": a_cookie(key="another")},
        {"cookie": a_cookie(now=NOW - timedelta(hours=12))},
        {"x_functions_key": "wrong"},
        {"x_functions_key": "", "cookie": a_cookie()},
    ],
)
def test_without_a_good_one_it_asks_for_the_key(headers: dict[str, str]) -> None:
    answer = passed(a_request("?country=DE", **headers))
    assert answer is not None
    assert answer.status_code == 401
    assert b"code=KEY" in answer.get_body()


def test_the_key_goes_into_a_cookie_and_out_of_the_address() -> None:
    answer = passed(a_request(f"?country=DE&code={CONFIG.api_key}&exclude=uk,india&pin="))
    assert answer is not None
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"{PATH}?country=DE&exclude=uk,india&pin="
    cookie = answer.headers["Set-Cookie"]
    assert "Secure" not in cookie
    assert "HttpOnly" in cookie
    assert passed(a_request(cookie=cookie.split(";")[0])) is None
    safe = passed(a_request(f"?code={CONFIG.api_key}", scheme="https"))
    assert safe is not None
    assert safe.headers["Location"] == PATH
    assert "Secure" in safe.headers["Set-Cookie"]


def test_a_wrong_key_opens_nothing_even_with_a_session() -> None:
    answer = passed(a_request("?code=wrong", cookie=a_cookie()))
    assert answer is not None
    assert answer.status_code == 401
    assert "Set-Cookie" not in answer.headers


def test_what_is_asked_for_cannot_break_out_of_the_answers_head() -> None:
    answer = html.moved(PATH, [("country", "DE\r\nSet-Cookie: a=b"), ("pin", "a b&c")])
    assert answer.headers["Location"] == f"{PATH}?country=DE%0D%0ASet-Cookie:+a=b&pin=a+b%26c"


def test_a_page_is_served_under_a_policy_without_inline_anything() -> None:
    answer = html.locked("<b>no</b>")
    page = answer.get_body().decode()
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    assert "&lt;b&gt;no" in page
    assert "style=" not in page
    assert "<script" not in page
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
