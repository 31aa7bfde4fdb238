"""The style sheet that all pages share: its colours can be read in both schemes."""

from __future__ import annotations

import re

import pytest

from spaces.settings import ROOT


def luminance(colour: str) -> float:
    wide = colour if len(colour) == 7 else "#" + "".join(c * 2 for c in colour[1:])
    parts = [int(wide[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_every_colour_of_text_stands_out_from_what_is_behind_it(scheme: int) -> None:
    sheet = (ROOT / "console" / "static" / "console.css").read_text()
    colours = dict(
        re.findall(r"--(\w+): (#\w+)", re.findall(r":root \{([^}]*)\}", sheet)[scheme])
    )
    assert {"ink", "quiet", "accent", "good", "bad", "busy"} <= set(colours)
    for behind in ("paper", "card"):
        for name in ("ink", "quiet", "accent", "good", "bad", "busy"):
            a, b = sorted((luminance(colours[name]), luminance(colours[behind])))
            assert (b + 0.05) / (a + 0.05) >= 4.5, (name, behind)
