"""Settings for cards: refused where they contradict each other or the machine, and told as they are used."""

from __future__ import annotations

import pytest

from hypercluster.node.engine.devices import libraries
from hypercluster.node.engine.profile import Backend, BadBackend, check_cards

FAR = 15
"""number of a card that no test machine has"""


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(BadBackend, match="one of both"):
        Backend(main_gpu=0, tensor_split=(1.0, 1.0))
    for shares in ((0.0, 0.0), (-1.0, 2.0)):
        with pytest.raises(BadBackend, match="shares"):
            Backend(tensor_split=shares)


@pytest.mark.parametrize("backend", [Backend(main_gpu=FAR), Backend(tensor_split=(1.0,) * (FAR + 1))])
def test_cards_that_are_not_there_are_refused(backend: Backend) -> None:
    with pytest.raises(BadBackend, match=f"need {FAR + 1}.*CMAKE_ARGS"):
        check_cards(backend)
    check_cards(Backend(gpu_layers=0))


def test_the_build_is_found_by_its_files() -> None:
    """Whatever the system calls them: the profile's digest is over these."""
    names = {path.name.partition(".")[0].removeprefix("lib") for path in libraries()}
    assert {"llama", "ggml", "ggml-base"} <= names


def test_only_settings_that_count_are_told() -> None:
    assert Backend(gpu_layers=0).document() == {"kv": "f16", "flash_attention": False}
    assert Backend(flash_attention=True, kv_type="q8_0", gpu_layers=0).document() == {
        "kv": "q8_0",
        "flash_attention": True,
    }
