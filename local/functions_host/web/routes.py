"""Route templates of HTTP triggers: `spaces/{id:guid}/files/{*rest}`.

Pure. The syntax and the precedence are ASP.NET's, which Azure's host uses: literals before
constrained parameters before free ones before catch-alls, segment by segment, letter case ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Callable

    Test = Callable[[str], bool]

_PARAMETER = re.compile(
    r"(?P<star>\*{0,2})(?P<name>\w+)(?P<rules>(?::[^:=?(]+(?:\((?:[^()]|\([^()]*\))*\))?)*)"
    r"(?:=(?P<default>[^?]*))?(?P<optional>\??)"
)
_RULE = re.compile(r":([^:(]+)(?:\(((?:[^()]|\([^()]*\))*)\))?")
_SLASH = re.compile(r"%(2[Ff])")
_PLAIN: dict[str, str] = {
    "alpha": r"[A-Za-z]*",
    "bool": r"(?i:true|false)",
    "decimal": r"[+-]?\d+(\.\d+)?",
    "double": r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?",
    "float": r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?",
    "guid": r"\{?[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\}?",
    "required": r".+",
}


@dataclass(frozen=True, slots=True)
class Segment:
    """One part between slashes; `rank` 0 literal, 1 mixed, 2 constrained, 3 free, 4-5 catch-all."""

    rank: int
    pattern: re.Pattern[str]
    tests: tuple[tuple[str, Test], ...] = ()
    optional: bool = False
    catch_all: str | None = None
    defaults: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Template:
    """A compiled route. `shape` is equal for templates that match the same paths."""

    segments: tuple[Segment, ...]
    shape: str

    @property
    def precedence(self) -> tuple[int, ...]:
        """Sort key: of two templates that match, the one with the lower key wins."""
        return tuple(segment.rank for segment in self.segments)

    def match(self, path: str) -> dict[str, str] | None:
        """The route values when `path` (percent-encoded, no query) fits, else None."""
        parts = (
            [_decoded(part) for part in path.strip("/").split("/")] if path.strip("/") else []
        )
        values: dict[str, str] = {}
        for index, segment in enumerate(self.segments):
            if segment.catch_all is not None:
                rest = "/".join(parts[index:])
                if not all(test(rest) for _, test in segment.tests):
                    return None
                return values | {segment.catch_all: rest}
            if index >= len(parts):
                if not segment.optional and not segment.defaults:
                    return None
                values |= dict(segment.defaults)
                continue
            found = segment.pattern.fullmatch(parts[index])
            if found is None or not all(test(found[name]) for name, test in segment.tests):
                return None
            values |= {
                name: value for name, value in found.groupdict().items() if value is not None
            }
        return values if len(parts) <= len(self.segments) else None


def _decoded(part: str) -> str:
    """Percent-decoded but for slashes, which ASP.NET leaves as they came."""
    return unquote(_SLASH.sub(r"%25\1", part))


def compile_template(route: str) -> Template:
    """The template of a route without its leading slash.

    Raises:
        ValueError: what is wrong with it.
    """
    segments: list[Segment] = []
    names: set[str] = set()
    shapes: list[str] = []
    for text in route.split("/") if route else []:
        if segments and segments[-1].catch_all is not None:
            raise ValueError("nothing may follow a catch-all")
        segment, shape, found = _segment(text)
        if names & found:
            raise ValueError(f"the parameter {(names & found).pop()!r} stands twice")
        if segments and segments[-1].optional and not segment.optional:
            raise ValueError("only the end of a route may be optional")
        names |= found
        segments.append(segment)
        shapes.append(shape)
    return Template(tuple(segments), "/".join(shapes))


def _segment(text: str) -> tuple[Segment, str, set[str]]:
    if not text:
        raise ValueError("it has an empty segment")
    pieces = _pieces(text)
    if len(pieces) == 1 and pieces[0][0]:
        return _lone_parameter(pieces[0][1])
    pattern, shape = "", ""
    names: set[str] = set()
    tests: list[tuple[str, Test]] = []
    for is_parameter, piece in pieces:
        if not is_parameter:
            pattern += re.escape(piece)
            shape += piece.lower()
            continue
        found = _parameter(piece)
        if found["star"] or found["optional"] or found["default"] is not None:
            raise ValueError(f"{text!r} mixes text with an optional part or a catch-all")
        if found["name"] in names:
            raise ValueError(f"the parameter {found['name']!r} stands twice")
        names.add(found["name"])
        rules = _rules(found["rules"])
        tests += [(found["name"], test) for test in rules]
        pattern += f"(?P<{found['name']}>.+?)"
        shape += "{" + found["rules"] + "}"
    rank = 1 if names else 0
    return Segment(rank, re.compile(pattern, re.IGNORECASE), tuple(tests)), shape, names


def _lone_parameter(piece: str) -> tuple[Segment, str, set[str]]:
    found = _parameter(piece)
    name, tests = found["name"], tuple((found["name"], test) for test in _rules(found["rules"]))
    shape = "{" + found["star"][:1] + found["rules"] + "}"
    if found["star"]:
        rank = 4 if tests else 5
        segment = Segment(rank, re.compile(""), tests, optional=True, catch_all=name)
        return segment, shape, {name}
    defaults = () if found["default"] is None else ((name, found["default"]),)
    segment = Segment(
        2 if tests else 3,
        re.compile(f"(?P<{name}>.+)", re.DOTALL),
        tests,
        optional=bool(found["optional"]) or bool(defaults),
        defaults=defaults,
    )
    return segment, shape, {name}


def _parameter(piece: str) -> re.Match[str]:
    found = _PARAMETER.fullmatch(piece)
    if found is None:
        raise ValueError(f"the parameter {{{piece}}} cannot be read")
    return found


def _pieces(text: str) -> list[tuple[bool, str]]:
    """Plain text and `{parameter}` parts, in order."""
    pieces: list[tuple[bool, str]] = []
    position = 0
    while position < len(text):
        if text[position] == "{":
            if pieces and pieces[-1][0]:
                raise ValueError(f"{text!r} has two parameters side by side")
            piece, position = _braced(text, position + 1)
            pieces.append((True, piece))
            continue
        end = text.find("{", position) % (len(text) + 1)
        if "}" in text[position:end]:
            raise ValueError(f"{text!r} has a brace that was never opened")
        pieces.append((False, text[position:end]))
        position = end
    return pieces


def _braced(text: str, position: int) -> tuple[str, int]:
    """What stands up to the closing brace; braces of a rule's argument come doubled."""
    inner, depth = "", 0
    while position < len(text):
        sign = text[position]
        if depth and text[position : position + 2] in ("{{", "}}"):
            inner += sign
            position += 2
            continue
        if sign == "}" and not depth:
            return inner, position + 1
        depth += (sign == "(") - (sign == ")")
        inner += sign
        position += 1
    raise ValueError(f"{text!r} has a brace that is never closed")


def _rules(text: str) -> list[Test]:
    return [_rule(found[1], found[2]) for found in _RULE.finditer(text)]


def _rule(name: str, argument: str | None) -> Test:
    try:
        if argument is None:
            return _plain_rule(name)
        return _rule_with(name, argument)
    except (KeyError, ValueError, re.error) as error:
        raise ValueError(f"the constraint {name!r} is unknown or malformed") from error


def _plain_rule(name: str) -> Test:
    if name in ("int", "long"):
        bits = 31 if name == "int" else 63
        return lambda text: _whole(text, -(2**bits), 2**bits - 1)
    pattern = re.compile(_PLAIN[name])
    return lambda text: pattern.fullmatch(text) is not None


def _rule_with(name: str, argument: str) -> Test:
    if name == "regex":
        pattern = re.compile(argument, re.IGNORECASE)
        return lambda text: pattern.search(text) is not None
    numbers = [int(part) for part in argument.split(",")]
    return _NUMBERED[name, len(numbers)](*numbers)


def _whole(text: str, low: int, high: int) -> bool:
    return (
        re.fullmatch(r"[+-]?\d{1,19}", text, re.ASCII) is not None and low <= int(text) <= high
    )


_NUMBERED: dict[tuple[str, int], Callable[..., Test]] = {
    ("length", 1): lambda exact: lambda text: len(text) == exact,
    ("length", 2): lambda low, high: lambda text: low <= len(text) <= high,
    ("minlength", 1): lambda low: lambda text: len(text) >= low,
    ("maxlength", 1): lambda high: lambda text: len(text) <= high,
    ("min", 1): lambda low: lambda text: _whole(text, low, 2**63 - 1),
    ("max", 1): lambda high: lambda text: _whole(text, -(2**63), high),
    ("range", 2): lambda low, high: lambda text: _whole(text, low, high),
}
