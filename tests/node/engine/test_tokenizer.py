from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercluster.node.engine.chat import Message, NoChatTemplate
from hypercluster.node.engine.llama import LlamaError, LoadFailed
from hypercluster.node.engine.tokenizer import Tokenizer, TokenizerError
from hypercluster.node.shards import write_vocabulary
from hypercluster.node.shards.writing import text, write_gguf
from tests.node.helpers.random_models import Shape, vocabulary, write_random_model

CHATML = (
    "{% for m in messages %}{{'<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>'}}{% endfor %}"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tokenizer]:
    directory = tmp_path_factory.mktemp("vocabulary")
    model = write_random_model(directory / "model.gguf", Shape(layers=1))
    with Tokenizer(write_vocabulary(model, directory / "vocab.gguf")) as tokenizer:
        yield tokenizer


def with_template(path: Path, template: str) -> Tokenizer:
    metadata = {"general.architecture": text("llama"), **vocabulary(320)}
    return Tokenizer(write_gguf(path, metadata | {"tokenizer.chat_template": text(template)}, ()))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_text_survives_the_way_to_tokens_and_back(tokenizer: Tokenizer, words: str) -> None:
    assert tokenizer.decode(tokenizer.encode(words, add_special=False)) == words


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 319), max_size=30))
def test_a_stream_gives_the_text_of_the_whole(tokenizer: Tokenizer, ids: list[int]) -> None:
    stream = tokenizer.stream()
    assert "".join([*map(stream.push, ids), stream.finish()]) == tokenizer.decode(ids)


def test_a_character_appears_when_its_last_byte_does(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("😀", add_special=False)
    stream = tokenizer.stream()
    assert len(ids) == 4
    assert [stream.push(i) for i in ids] == ["", "", "", "😀"]
    stream.push(ids[0])
    assert stream.finish() == "\N{REPLACEMENT CHARACTER}"


def test_the_end_of_text_ends_and_is_not_shown(tokenizer: Tokenizer) -> None:
    assert tokenizer.n_vocab == 320
    assert tokenizer.eos == 319
    assert tokenizer.end_ids == {319}
    assert tokenizer.piece(319) == b""
    assert tokenizer.piece(319, special=True) == b"<|end|>"


def test_control_tokens_in_a_text_are_text_unless_asked_for(tokenizer: Tokenizer) -> None:
    assert 319 not in tokenizer.encode("<|end|>", add_special=False)
    assert tokenizer.encode("<|end|>", add_special=False, parse_special=True) == [319]


@pytest.mark.parametrize("token", [-1, 320, 2**31 - 1, -(2**31)])
def test_a_token_outside_the_vocabulary_is_refused(tokenizer: Tokenizer, token: int) -> None:
    with pytest.raises(TokenizerError, match="outside the vocabulary"):
        tokenizer.piece(token)


def test_long_texts_and_lone_surrogates(tokenizer: Tokenizer) -> None:
    words = "the thing in the other " * 5000
    assert tokenizer.decode(tokenizer.encode(words, add_special=False)) == words
    assert tokenizer.decode(tokenizer.encode("a\ud800b", add_special=False)) == "a?b"


def test_a_chat_is_written_by_the_model_s_template(tmp_path: Path) -> None:
    with with_template(tmp_path / "v.gguf", CHATML) as tokenizer:
        chat = [Message("system", "Be brief."), Message("user", "Hé" * 2000)]
        rendered = tokenizer.render_chat(chat)
        assert rendered.endswith("Hé<|im_end|>")
        assert tokenizer.decode(tokenizer.encode_chat(chat)) == rendered
        assert (
            tokenizer.decode(tokenizer.encode_chat([Message("user", "a\0b")]))
            == "<|im_start|>user\na\0b<|im_end|>"
        )


def test_without_a_template_a_chat_is_plain_text(tokenizer: Tokenizer) -> None:
    chat = [
        Message("system", "Be brief."),
        Message("user", "Hello "),
        Message("assistant", "Hi"),
        Message("user", "?"),
    ]
    assert tokenizer.render_chat(chat) == "Be brief.\n\nUser: Hello\n\nAssistant: Hi\n\nUser: ?\n\nAssistant:"


def test_without_a_usable_template_the_error_says_so(tmp_path: Path) -> None:
    with (
        with_template(tmp_path / "v.gguf", "{{ strange }}") as strange,
        pytest.raises(NoChatTemplate, match="what is said"),
    ):
        strange.render_chat([Message("user", "Hello")])


def test_files_that_are_no_vocabulary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="no model file"):
        Tokenizer(tmp_path / "missing.gguf")
    (tmp_path / "noise.gguf").write_bytes(np.random.default_rng(0).bytes(4096))
    with pytest.raises(LoadFailed, match="cannot load"):
        Tokenizer(tmp_path / "noise.gguf")
    bare = write_random_model(tmp_path / "bare.gguf", Shape(layers=1, vocabulary=False))
    with pytest.raises(TokenizerError, match="no vocabulary"):
        Tokenizer(bare)


def test_a_closed_tokenizer_says_so(tmp_path: Path) -> None:
    tokenizer = with_template(tmp_path / "v.gguf", CHATML)
    tokenizer.close()
    tokenizer.close()
    for use in (lambda: tokenizer.encode("a"), lambda: tokenizer.piece(1), lambda: tokenizer.end_ids):
        with pytest.raises(LlamaError, match="closed"):
            use()
