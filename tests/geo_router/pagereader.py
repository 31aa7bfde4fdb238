"""A page as a browser without script reads it: elements, ids, and what a form would send."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "link", "input", "br", "img", "path", "circle"}


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    inside: tuple[Element, ...]
    parts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(self.parts).split())

    def __getitem__(self, name: str) -> str:
        return self.attributes[name]

    def get(self, name: str) -> str | None:
        return self.attributes.get(name)


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.elements: list[Element] = []
        self.open: list[Element] = []
        self.feed(html)
        self.close()
        assert not self.open, [one.tag for one in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, names)
        element = Element(tag, {n: v or "" for n, v in attrs}, tuple(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        assert self.open, tag
        assert self.open[-1].tag == tag, (self.open[-1].tag, tag)
        self.open.pop()

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.parts.append(data)

    def all(self, tag: str, **attributes: str) -> list[Element]:
        wanted = {name.rstrip("_").replace("_", "-"): v for name, v in attributes.items()}
        return [
            one
            for one in self.elements
            if one.tag == tag and wanted.items() <= one.attributes.items()
        ]

    def ids(self) -> list[str]:
        return [one["id"] for one in self.elements if "id" in one.attributes]

    def by_id(self, name: str) -> Element:
        (found,) = [one for one in self.elements if one.get("id") == name]
        return found

    def within(self, parent: Element, tag: str) -> list[Element]:
        return [one for one in self.elements if one.tag == tag and parent in one.inside]

    def sent(self) -> list[tuple[str, str]]:
        """The pairs that pressing the button would send: blank ones too, as browsers do."""
        pairs: list[tuple[str, str]] = []
        for one in self.elements:
            if one.tag == "input" and one.get("type") == "checkbox":
                if "checked" in one.attributes:
                    pairs.append((one["name"], one["value"]))
            elif one.tag == "input":
                pairs.append((one["name"], one["value"]))
            elif one.tag == "select":
                options = self.within(one, "option")
                chosen = [o for o in options if "selected" in o.attributes] or options[:1]
                pairs.append((one["name"], chosen[-1]["value"]))
        return pairs
