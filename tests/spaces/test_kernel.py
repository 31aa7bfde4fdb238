"""The smaller pieces of the kernel: audit chain, names, clusters, ids."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from spaces import audit
from spaces.clusters import CLUSTERS
from spaces.errors import InvalidError
from spaces.model import OpStatus, space_of_op
from spaces.names import check_name
from spaces.registry import inbox_key
from spaces.settings import ROOT, read
from tests.builders import a_space, some_environment
from tests.fakes import START


def a_chain(length: int) -> tuple[list[str], audit.Head]:
    head, texts = audit.Head(), []
    for number in range(length):
        entry = audit.Entry(act="a", actor="b", obj="c", detail={"n": number})
        head, text = audit.append(head, entry, space_id="s-1", at=START)
        texts.append(text)
    return texts, head


def test_a_chain_as_written_holds() -> None:
    assert audit.first_break(*a_chain(5)) is None


@given(st.integers(0, 4), st.data())
def test_any_change_of_an_entry_is_found_where_it_is(at: int, data: st.DataObject) -> None:
    texts, head = a_chain(5)
    position = data.draw(st.integers(0, len(texts[at]) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda c: c != texts[at][position]))
    texts[at] = texts[at][:position] + other + texts[at][position + 1 :]
    assert audit.first_break(texts, head) == at + 1


def test_a_truncated_or_reordered_chain_is_found() -> None:
    texts, head = a_chain(5)
    assert audit.first_break(texts[:-1], head) == 5
    assert audit.first_break([texts[1], texts[0], *texts[2:]], head) == 1


@pytest.mark.parametrize("name", ["ab", "acme", "a-1", "a" * 30])
def test_a_good_name_is_good(name: str) -> None:
    assert check_name(name) == name


@given(st.text(max_size=40))
def test_no_text_outside_the_rule_is_a_name(text: str) -> None:
    good = (
        2 <= len(text) <= 30
        and text[0] in "abcdefghijklmnopqrstuvwxyz"
        and all(c in "abcdefghijklmnopqrstuvwxyz0123456789-" for c in text)
    )
    try:
        check_name(text)
        assert good
    except InvalidError:
        assert not good


@given(st.text(), st.text())
def test_an_inbox_key_holds_no_foreign_text(source: str, cause: str) -> None:
    key = inbox_key(source.replace("\ud800", ""), cause.replace("\ud800", ""))
    assert key.isascii()
    assert not set(key) & set("/\\#?\t\n")


def test_an_operation_id_embeds_its_space() -> None:
    space = a_space(op_seq=41)
    assert space.next_op_id() == f"op-{space.space_id}-0042"
    assert space_of_op(space.next_op_id()) == space.space_id
    assert space_of_op("op-x") is None
    assert space_of_op("") is None


def test_operation_words_are_those_of_the_contract() -> None:
    assert [status.wire for status in OpStatus] == [
        "notStarted",
        "running",
        "succeeded",
        "failed",
        "canceled",
        "needsOperator",
    ]


def test_the_six_clusters_are_those_of_the_rules() -> None:
    data = yaml.safe_load((ROOT / "rules" / "clusters.yaml").read_text())
    assert {
        (one["id"], one["azure_region"], one["backup_region"]["azure_region"], one["country"])
        for one in data["clusters"]
    } == {
        (name, one.azure_region, one.backup_region, one.country)
        for name, one in CLUSTERS.items()
    }


@pytest.mark.parametrize("name", ["KPAX_DECISION_KEY", "KPAX_SPACE_DOMAIN", "KPAX_API_KEY"])
def test_a_missing_setting_is_named(name: str) -> None:
    env = {key: value for key, value in some_environment().items() if key != name}
    with pytest.raises(InvalidError, match=name):
        read(env)


ROOMS = ("spaces", "geo_router", "provisioning", "backups", "console")


@pytest.mark.parametrize("room", ROOMS)
def test_product_code_does_not_import_the_local_stack(room: str) -> None:
    for path in (ROOT / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not [n for n in names if n.split(".")[0] == "local"], path


def test_nobody_asks_whether_the_stack_is_local() -> None:
    for room in ROOMS:
        for path in Path(ROOT / room).rglob("*.py"):
            assert "is_local" not in path.read_text(), path
