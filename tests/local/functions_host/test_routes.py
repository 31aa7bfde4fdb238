from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.functions_host.web.routes import compile_template


@pytest.mark.parametrize(
    ("route", "path", "values"),
    [
        ("api/v1/spaces", "/api/v1/spaces", {}),
        ("api/v1/spaces", "/API/v1/SPACES/", {}),
        ("api/v1/spaces", "/api/v1/spaces/x", None),
        ("", "/", {}),
        ("{id}", "/a%20b", {"id": "a b"}),
        ("{id}", "/a%2Fb", {"id": "a%2Fb"}),  # a slash in a value stays encoded
        ("{id}", "/", None),
        ("a/{id?}", "/a", {}),
        ("a/{id?}", "/a/x", {"id": "x"}),
        ("a/{id=7}", "/a", {"id": "7"}),
        ("a/{id:int}", "/a/12", {"id": "12"}),
        ("a/{id:int}", "/a/x", None),
        ("a/{id:int}", "/a/3000000000", None),
        ("a/{id:long}", "/a/3000000000", {"id": "3000000000"}),
        ("a/{id:alpha}", "/a/b1", None),
        ("a/{id:guid}", "/a/0eca1171-e88b-55e0-93d9-964bc979ba6a", ...),
        ("a/{id:guid}", "/a/0eca1171", None),
        ("a/{id:length(2)}", "/a/xy", {"id": "xy"}),
        ("a/{id:length(2)}", "/a/xyz", None),
        ("a/{id:minlength(2):maxlength(3)}", "/a/xyz", {"id": "xyz"}),
        ("a/{id:minlength(2):maxlength(3)}", "/a/x", None),
        ("a/{id:range(1,9)}", "/a/9", {"id": "9"}),
        ("a/{id:range(1,9)}", "/a/10", None),
        (r"a/{id:regex(^s-\d{{2}}$)}", "/a/s-42", {"id": "s-42"}),
        (r"a/{id:regex(^s-\d{{2}}$)}", "/a/s-421", None),
        ("a/{id:int?}", "/a", {}),
        ("a/{*rest}", "/a/b/c", {"rest": "b/c"}),
        ("a/{**rest}", "/a", {"rest": ""}),
        ("{name}.{kind}", "/report.pdf", {"name": "report", "kind": "pdf"}),
        ("v{number:int}", "/v12", {"number": "12"}),
        ("v{number:int}", "/vx", None),
    ],
)
def test_a_template_fits_the_paths_it_should(
    route: str, path: str, values: dict[str, str] | None
) -> None:
    found = compile_template(route).match(path)
    if values is ...:
        assert found is not None
    else:
        assert found == values


@pytest.mark.parametrize(
    "route",
    [
        "a//b",
        "a/{",
        "a/}",
        "a/{id}/{id}",
        "a/{id}{other}",
        "{*rest}/b",
        "{id?}/b",
        "a/{id:colour}",
        "a/{id:range(1)}",
        "a/{id:length(x)}",
        "a/{}",
        "x{id?}",
    ],
)
def test_a_malformed_template_is_refused(route: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        compile_template(route)


def test_the_more_exact_template_comes_first() -> None:
    ordered = ["a/b", "a/x{id}", "a/{id:int}", "a/{id}", "a/{*rest:alpha}", "a/{*rest}"]
    keys = [compile_template(route).precedence for route in ordered]
    assert keys == sorted(keys)
    assert len(set(keys)) == len(keys)


def test_templates_that_fit_the_same_paths_have_one_shape() -> None:
    assert compile_template("A/{id:int}").shape == compile_template("a/{number:int}").shape
    assert compile_template("a/{id:int}").shape != compile_template("a/{id}").shape


@given(st.lists(st.text("abcxyz-_.~ %é", min_size=1), min_size=1, max_size=4))
def test_every_path_made_from_values_gives_the_values_back(parts: list[str]) -> None:
    template = compile_template("/".join(f"{{p{n}}}" for n in range(len(parts))))
    path = "/" + "/".join(quote(part, safe="") for part in parts)
    assert template.match(path) == {f"p{n}": part for n, part in enumerate(parts)}
