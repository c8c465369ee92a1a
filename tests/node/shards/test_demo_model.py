"""The committed demo model: small, sound, known to llama.cpp, and a writer of verse."""

import re
from collections.abc import Iterator
from pathlib import Path

import gguf
import llama_cpp
import pytest

ROOT = Path(__file__).resolve().parents[3]
MODEL = ROOT / "node" / "demo_model" / "hypercluster-demo.gguf"
CORPUS = ROOT / "scripts" / "data" / "tinyshakespeare.txt"
WORD = re.compile(r"[a-z']+")


@pytest.fixture(scope="module")
def reader() -> gguf.GGUFReader:
    return gguf.GGUFReader(MODEL)


@pytest.fixture(scope="module")
def llama() -> Iterator[llama_cpp.Llama]:
    model = llama_cpp.Llama(str(MODEL), n_ctx=256, n_threads=1, verbose=False)
    yield model
    model.close()


def complete(llama: llama_cpp.Llama, tokens: int, temperature: float = 0.0) -> str:
    answer = llama.create_completion(
        "ROMEO:", max_tokens=tokens, temperature=temperature, repeat_penalty=1.0, seed=1
    )
    assert isinstance(answer, dict)
    return answer["choices"][0]["text"]


def test_it_is_small() -> None:
    assert MODEL.stat().st_size <= 8_000_000


def test_it_is_a_llama_of_eight_to_sixteen_layers(reader: gguf.GGUFReader) -> None:
    assert reader.fields["general.architecture"].contents() == "llama"
    assert 8 <= reader.fields["llama.block_count"].contents() <= 16
    assert 1000 <= len(reader.fields["tokenizer.ggml.tokens"].contents()) <= 2048


def test_every_tensor_has_a_type_that_llama_cpp_multiplies(reader: gguf.GGUFReader) -> None:
    types = {t.name: t.tensor_type for t in reader.tensors}
    assert {kind for name, kind in types.items() if "norm" in name} == {gguf.GGMLQuantizationType.F32}
    assert {kind for name, kind in types.items() if "norm" not in name} == {gguf.GGMLQuantizationType.Q8_0}
    assert "output.weight" not in types  # tied: the embeddings are the head


@pytest.mark.parametrize(
    "text", ["ROMEO:\nBut soft, what light", "'Tis I'll we've 1595\n\n  two  spaces\t", "naïve café, 日本 🙂"]
)
def test_any_text_survives_the_tokenizer(llama: llama_cpp.Llama, text: str) -> None:
    tokens = llama.tokenize(text.encode(), add_bos=True, special=False)
    assert llama.detokenize(tokens).decode() == text


def test_words_of_the_corpus_are_few_tokens(llama: llama_cpp.Llama) -> None:
    sample = CORPUS.read_bytes()[:20_000]
    assert len(llama.tokenize(sample, add_bos=False)) < len(sample) / 2


def share_of_corpus_words(text: str) -> float:
    known = set(WORD.findall(CORPUS.read_text(encoding="utf-8").lower()))
    words = WORD.findall(text.lower())[:-1]  # the last one may be cut short
    return sum(word in known for word in words) / len(words)


def test_romeo_speaks_in_words_and_lines_of_shakespeare(llama: llama_cpp.Llama) -> None:
    text = complete(llama, 120, temperature=0.8)
    words = WORD.findall(text.lower())
    assert len(words) >= 40
    assert share_of_corpus_words(text) >= 0.85
    assert len(set(words)) >= 0.4 * len(words)
    lines = [line for line in text.splitlines() if line][:-1]
    assert len(lines) >= 4
    assert max(map(len, lines)) <= 100


def test_greedy_text_is_of_words_of_the_corpus(llama: llama_cpp.Llama) -> None:
    """No demand on variety: a model this small repeats itself when it always takes the likeliest token."""
    assert share_of_corpus_words(complete(llama, 120)) >= 0.85


def test_greedy_text_is_the_same_every_time(llama: llama_cpp.Llama) -> None:
    assert complete(llama, 40) == complete(llama, 40)
