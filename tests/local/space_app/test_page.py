"""The page for people, as a browser without scripts gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import aiohttp
import pytest

if TYPE_CHECKING:
    from tests.local.space_app.conftest import Space

pytestmark = pytest.mark.stack


async def page(visitor: aiohttp.ClientSession, space: Space) -> str:
    async with visitor.get(space.url("/")) as answer:
        assert answer.status == 200
        assert "script" not in answer.headers["Content-Security-Policy"]
        return await answer.text()


async def test_the_page_says_what_it_is_and_who_answers(
    acme: Space, visitor: aiohttp.ClientSession
) -> None:
    text = await page(visitor, acme)
    assert "This is a stand-in." in text
    assert "<h1>Acme</h1>" in text
    assert "acme_0" in text


async def test_the_forms_add_what_the_page_then_shows(
    acme: Space, visitor: aiohttp.ClientSession
) -> None:
    fields = {"name": "Pump <b>4</b>", "serial": "A&B"}
    async with visitor.post(acme.url("/devices"), data=fields) as answer:
        assert (answer.status, str(answer.url)) == (200, acme.url("/"))
        text = await answer.text()
    assert "Pump &lt;b&gt;4&lt;/b&gt;" in text
    assert "A&amp;B" in text
    async with visitor.get(acme.url("/api/devices")) as answer:
        [device] = [row for row in await answer.json() if row["name"] == "Pump <b>4</b>"]
    fields = {"device_id": device["id"], "value": "-3.25", "unit": "°C", "at": ""}
    async with visitor.post(acme.url("/readings"), data=fields) as answer:
        assert "-3.25" in await answer.text()
    upload = aiohttp.FormData()
    upload.add_field("file", b"hello", filename="hello.txt", content_type="text/plain")
    async with visitor.post(acme.url("/documents"), data=upload) as answer:
        assert "hello.txt" in await answer.text()


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/devices", {"name": "only"}),
        ("/readings", {"device_id": "unknown", "value": "1", "unit": "m"}),
        ("/readings", {"device_id": "unknown", "value": "nan", "unit": "m"}),
        ("/documents", {"file": "no file"}),
    ],
)
async def test_a_refused_form_says_why_on_the_page(
    acme: Space, visitor: aiohttp.ClientSession, path: str, fields: dict[str, str]
) -> None:
    async with visitor.post(acme.url(path), data=fields) as answer:
        assert answer.status in {400, 415}
        assert 'role="alert"' in await answer.text()


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
async def test_another_sites_page_changes_nothing(
    acme: Space, visitor: aiohttp.ClientSession, site: str
) -> None:
    fields = {"name": "x", "serial": "y"}
    headers = {"Sec-Fetch-Site": site}
    for path in ("/devices", "/api/devices"):
        async with visitor.post(acme.url(path), data=fields, headers=headers) as answer:
            assert answer.status == 403
