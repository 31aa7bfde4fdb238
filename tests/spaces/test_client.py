"""What a problem document becomes at the command line."""

from __future__ import annotations

import pytest

from spaces.client import error_of


@pytest.mark.parametrize(
    ("title", "detail", "said"),
    [
        ("no order o-x", "no order o-x", "no order o-x."),
        ("no space x", "See: kpax space list.", "no space x. See: kpax space list."),
        (
            "the request cannot be read",
            "The request cannot be read: /country 'XX' is no code",
            "the request cannot be read. /country 'XX' is no code",
        ),
        ("it failed", "", "it failed."),
    ],
)
def test_a_title_is_not_said_twice(title: str, detail: str, said: str) -> None:
    assert str(error_of({"title": title, "detail": detail, "type": "x/y"}, 404)) == said
