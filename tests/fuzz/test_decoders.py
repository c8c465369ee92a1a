"""Whatever a decoder is given, it gives a value or one of our own errors, soon and in bounded memory.

`make fuzz` does the same for an hour. What it finds becomes a file of the corpus, and so a case of the first test.
"""

from __future__ import annotations

import secrets

import pytest

from tests.fuzz.decoder import CORPUS, Crash, Decoder, attempt, silence
from tests.fuzz.fuzzing import Found, fuzz
from tests.fuzz.mutation import Shape, replaced
from tests.fuzz.table import DECODERS

SAME_INPUTS = 200
"""drawn alike in every run, for each decoder"""
SECONDS = 0.8
"""for inputs that are new in every run, for each decoder"""
every_decoder = pytest.mark.parametrize("decoder", DECODERS.values(), ids=DECODERS.keys())


@every_decoder
def test_the_corpus_is_taken(decoder: Decoder) -> None:
    good = 0
    for data in decoder.seeds():
        with silence():
            outcome = attempt(decoder, data)
        assert not isinstance(outcome, Crash), str(outcome)
        good += outcome == "a value"
    # One that refuses everything would pass all that follows.
    assert good or decoder.name in ("frames", "packets", "revert")


@pytest.mark.parametrize("name", [name for name, each in DECODERS.items() if each.shape is Shape.JSON])
def test_any_kind_of_value_is_taken_in_place_of_any_other(name: str) -> None:
    decoder, crashes = DECODERS[name], dict[str, Crash]()
    with silence():
        for data in replaced(decoder.seeds()):
            if isinstance(outcome := attempt(decoder, data), Crash):
                crashes[outcome.kind] = outcome
    assert not crashes, "\n\n".join(map(str, crashes.values()))


@every_decoder
def test_inputs_made_wrong_are_taken(decoder: Decoder) -> None:
    _hold(decoder, fuzz(decoder, "the same in every run", inputs=SAME_INPUTS), "the same in every run")


@every_decoder
def test_inputs_that_nobody_has_seen_are_taken(decoder: Decoder) -> None:
    seed = secrets.token_hex(4)
    _hold(decoder, fuzz(decoder, seed, seconds=SECONDS), seed)


def test_every_folder_of_the_corpus_is_a_decoders() -> None:
    assert {path.name for path in CORPUS.iterdir()} == DECODERS.keys()


def _hold(decoder: Decoder, found: Found, seed: str) -> None:
    assert not found.crashes, (
        "\n\n".join(str(each) for each in found.crashes.values())
        + f"\n\nAgain: python -m tests.fuzz --only {decoder.name} --seed '{seed}' --minutes 1"
    )
