"""Every architecture and every type of weights: shards compute what the whole model does, bit by bit."""

from __future__ import annotations

import pytest

from tests.models.cases import ARCHITECTURES, CASES
from tests.models.quantised import TYPES
from tests.models.sweeping import sweep, wrong


@pytest.mark.slow
def test_shards_of_every_architecture_are_exact_and_do_what_its_rule_says() -> None:
    found = list(sweep(CASES))
    assert [f"{each.case}: {sentence}" for each in found for sentence in wrong(each)] == []
    assert sum(each.exact for each in found if each.case in ARCHITECTURES) >= 119


@pytest.mark.slow
def test_shards_are_exact_in_every_type_that_llama_cpp_multiplies() -> None:
    found = list(sweep(TYPES, program="tests.models.quantised"))
    assert {
        each.case: each.error or each.refused or each.difference for each in found if not each.exact
    } == {}
