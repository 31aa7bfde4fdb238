"""The API document: valid, and the same as what is committed."""

from __future__ import annotations

import json

import pytest
from openapi_spec_validator import validate

from scripts.schemas import generated
from spaces.http import OPERATIONS
from spaces.openapi import document
from spaces.settings import ROOT
from tests.functions import functions

FUNCTIONS = list(functions().values())


def test_the_document_is_valid_openapi() -> None:
    validate(document(OPERATIONS))


@pytest.mark.parametrize("path", sorted(generated()), ids=lambda path: path.name)
def test_what_is_committed_is_what_the_code_gives(path: object) -> None:
    assert path.read_text() == generated()[path]  # pyright: ignore[reportAttributeAccessIssue, reportArgumentType]


def test_every_function_has_its_own_name_and_every_endpoint_is_served() -> None:
    names = [one.get_function_name() for one in FUNCTIONS]
    assert len(names) == len(set(names))
    assert {one.name for one in OPERATIONS} <= set(names)


def test_the_queues_of_triggers_are_declared() -> None:
    declared = {
        one["name"]
        for one in json.loads((ROOT / "infra" / "queues.json").read_text())["queues"]
    }
    used = {
        binding.queue_name.removesuffix("/$DeadLetterQueue")
        for one in FUNCTIONS
        for binding in one.get_bindings()
        if hasattr(binding, "queue_name")
    }
    assert used <= declared
