"""The list of deliberate weakenings does not rot: each still fits the code, and names tests that there are."""

from __future__ import annotations

import re

import pytest
from tests.mutation.mutations import ROOT, Mutation, mutations

_FUNCTION = re.compile(r"^(?:async )?def (test_\w+)", re.M)


@pytest.mark.parametrize("mutation", mutations(), ids=lambda mutation: mutation.name)
def test_a_weakening_still_fits_the_code_and_names_its_tests(mutation: Mutation) -> None:
    assert mutation.occurrences() == 1, f"{mutation.file} holds the text {mutation.occurrences()} times"
    assert mutation.instead != mutation.text and mutation.tests
    if mutation.file.endswith(".py"):
        source = (ROOT / mutation.file).read_text("utf-8")
        compile(source.replace(mutation.text, mutation.instead), mutation.file, "exec")
    for test in mutation.tests:
        file, _, name = test.partition("::")
        functions = _FUNCTION.findall((ROOT / file).read_text("utf-8"))
        assert functions and (not name or name in functions), test


def test_names_are_their_own_and_there_are_enough() -> None:
    names = [mutation.name for mutation in mutations()]
    assert len(set(names)) == len(names) >= 20
