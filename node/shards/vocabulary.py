"""The tokenizer's part of a model file: its checks, its digest, and the vocabulary-only file for clients."""

from __future__ import annotations

import hashlib
from pathlib import Path

from gguf.constants import GGUFValueType

from hypercluster.node.shards.container import Container
from hypercluster.node.shards.errors import UnsupportedModel
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.writing import Value, text, write_gguf

MODEL_ID = "hypercluster.model_id"
TOKENIZERS = ("llama", "gpt2", "gemma4", "plamo2")
NO_VOCABULARY = ("no_vocab", "none")
_LISTS = {
    "tokenizer.ggml.tokens": (GGUFValueType.STRING,),
    "tokenizer.ggml.scores": (GGUFValueType.FLOAT32, GGUFValueType.INT32),
    "tokenizer.ggml.token_type": (GGUFValueType.INT32,),
}


def has_vocabulary(file: Container) -> bool:
    """Whether the file brings a tokenizer, or only token ids go in and out."""
    return file.scalar("tokenizer.ggml.model") not in (None, *NO_VOCABULARY)


def check_tokenizer(file: Container, architecture: str, n_vocab: int) -> None:
    """Check that the tokenizer's lists fit a vocabulary of `n_vocab`; llama.cpp reads them unchecked.

    A file without vocabulary (`no_vocab`) passes. Raises UnsupportedModel, MalformedFile.
    """
    kind = file.scalar("tokenizer.ggml.model")
    if kind in NO_VOCABULARY:
        size = file.scalar(f"{architecture}.vocab_size")
        if size != n_vocab:
            raise UnsupportedModel(f"{file.path} names {size} tokens but embeds {n_vocab}.")
        return
    if kind not in TOKENIZERS:
        raise UnsupportedModel(
            f"{file.path} has the tokenizer {kind!r}; supported are {', '.join(TOKENIZERS)}."
        )
    if "tokenizer.ggml.tokens" not in file.fields:
        raise UnsupportedModel(f"{file.path} has no list of tokens.")
    for key, items in _LISTS.items():
        field = file.fields.get(key)
        if field is not None and (field.item not in items or field.count != n_vocab):
            raise UnsupportedModel(
                f"{file.path}: {key} should list {n_vocab} values of type {items[0].name}, one per token."
            )
    _check_tokens(file, bytewise=kind == "llama")
    merges = file.fields.get("tokenizer.ggml.merges")
    if merges is not None and merges.item is not GGUFValueType.STRING:
        raise UnsupportedModel(f"{file.path}: tokenizer.ggml.merges should be a list of texts.")
    template = file.scalar("tokenizer.chat_template")
    if template is not None and not isinstance(template, str):
        raise UnsupportedModel(f"{file.path}: tokenizer.chat_template should be a text.")


def _check_tokens(file: Container, *, bytewise: bool) -> None:
    """llama.cpp aborts on a token that comes twice, and on text that SentencePiece tokens cannot spell."""
    tokens = {token or b"[EMPTY_%d]" % i for i, token in enumerate(file.texts("tokenizer.ggml.tokens"))}
    if len(tokens) != file.fields["tokenizer.ggml.tokens"].count:
        raise UnsupportedModel(f"{file.path} has tokens that come twice, so ids would not be unique.")
    if bytewise and not all(b"<0x%02X>" % byte in tokens or bytes([byte]) in tokens for byte in range(256)):
        raise UnsupportedModel(f"{file.path} lacks tokens for single bytes, so it cannot spell every text.")


def tokenizer_keys(file: Container) -> list[str]:
    """The metadata keys that make up the tokenizer, sorted."""
    return sorted(key for key in file.fields if key.startswith("tokenizer."))


def tokenizer_digest(file: Container) -> str:
    """SHA-256 (hex) over the tokenizer's keys, types and encodings."""
    digest = hashlib.sha256()
    for key in tokenizer_keys(file):
        raw = file.raw(key)
        digest.update(f"{key} {file.fields[key].type.name} {hashlib.sha256(raw).hexdigest()}\n".encode())
    return digest.hexdigest()


def same_tokens(one: Path, other: Path) -> bool:
    """Whether two files name the same tokens in the same order, so that ids of one mean the same to the other.

    Raises MalformedFile.
    """
    tokens = [read_container(path) for path in (one, other)]
    return tokens[0].texts("tokenizer.ggml.tokens") == tokens[1].texts("tokenizer.ggml.tokens")


def write_vocabulary(source: Path, dest: Path, *, model_id: str | None = None) -> Path:
    """Write the vocabulary-only GGUF that a client tokenizes with, and return its path.

    It holds the architecture's name, all `tokenizer.*` metadata byte for byte and, where given, the model id;
    no tensors. Raises UnsupportedModel where the source has no vocabulary, MalformedFile.
    """
    file = read_container(source)
    architecture = file.scalar("general.architecture")
    if not has_vocabulary(file):
        raise UnsupportedModel(f"{source} has no vocabulary to write.")
    metadata = {"general.architecture": text(str(architecture))}
    if model_id is not None:
        metadata[MODEL_ID] = text(model_id)
    for key in tokenizer_keys(file):
        metadata[key] = Value(file.fields[key].type, file.raw(key))
    return write_gguf(dest, metadata, ())
