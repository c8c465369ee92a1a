"""Text to tokens and back on a vocabulary-only GGUF, with llama.cpp's own tokenizers and chat templates."""

from __future__ import annotations

import codecs
import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import llama_cpp as native

from hypercluster.node.engine.llama import Model
from hypercluster.node.errors import NodeError

_NO_TOKEN = -1


class TokenizerError(NodeError):
    """A text, token or chat cannot be turned into the other form."""


class NoChatTemplate(TokenizerError):
    """The model brings no chat template, or one that llama.cpp does not know."""


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a chat: role "system", "user" or "assistant", and what was said."""

    role: str
    content: str


class Tokenizer:
    """The vocabulary of a model. For one thread at a time; close() frees it. Raises node.llama.LoadFailed."""

    def __init__(self, vocabulary: Path) -> None:
        self._model = Model(vocabulary, vocab_only=True)
        vocab = self._model.vocab
        if native.llama_vocab_type(vocab) == native.LLAMA_VOCAB_TYPE_NONE:
            self._model.close()
            raise TokenizerError(f"{vocabulary} holds no vocabulary.")
        self.n_vocab = self._model.n_vocab
        self.bos: int | None = _token(native.llama_vocab_bos(vocab))
        self.eos: int | None = _token(native.llama_vocab_eos(vocab))
        self.chat_template = self._model.chat_template()

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Every token that ends a generation (end of text, of turn, of message)."""
        vocab = self._model.vocab
        return frozenset(i for i in range(self.n_vocab) if native.llama_vocab_is_eog(vocab, i))

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Return the token ids of `text`.

        `add_special` puts the tokens in front (and behind) that the model asks for; `parse_special` reads
        control tokens spelled out in the text, which a text from strangers should not be able to do.
        """
        raw = text.encode("utf-8", "replace")
        size = len(raw) + 8
        while True:
            ids = (native.llama_token * size)()
            n = native.llama_tokenize(self._model.vocab, raw, len(raw), ids, size, add_special, parse_special)
            if n >= 0:
                return list(ids[:n])
            if -n <= size:
                raise TokenizerError("llama.cpp cannot tokenize this text.")
            size = -n

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Return the bytes of one token, which may be part of a character; control tokens are empty unless
        `special`. Raises TokenizerError for an id outside the vocabulary.
        """
        if not 0 <= token < self.n_vocab:
            raise TokenizerError(f"Token {token} lies outside the vocabulary of {self.n_vocab}.")
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = native.llama_token_to_piece(self._model.vocab, token, buffer, size, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            size = -n

    def decode(self, tokens: Iterable[int], *, special: bool = False) -> str:
        """Return the text of `tokens`, a leading space included; broken UTF-8 becomes U+FFFD."""
        return b"".join(self.piece(t, special=special) for t in tokens).decode("utf-8", "replace")

    def stream(self, *, special: bool = False) -> TextStream:
        """Return a decoder that takes one token after the other."""
        return TextStream(self, special)

    def encode_chat(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of a chat that is to be continued by the assistant. Raises NoChatTemplate."""
        return self.encode(self.render_chat(messages), parse_special=True)

    def render_chat(self, messages: Sequence[Message], *, add_assistant: bool = True) -> str:
        """Return the chat as the model's template writes it, by default up to where the assistant begins.

        llama.cpp recognises the usual templates by their text and does not run Jinja. Raises NoChatTemplate.
        """
        if self.chat_template is None:
            raise NoChatTemplate("The model has no chat template; use a plain prompt instead.")
        chat = (native.llama_chat_message * len(messages))()
        for slot, message in zip(chat, messages, strict=True):
            if "\0" in message.role + message.content:
                raise TokenizerError("A chat message cannot contain a null character.")
            slot.role = message.role.encode("utf-8", "replace")
            slot.content = message.content.encode("utf-8", "replace")
        template = self.chat_template.encode()
        size = 1024
        while True:
            buffer = ctypes.create_string_buffer(size)
            n = native.llama_chat_apply_template(template, chat, len(messages), add_assistant, buffer, size)
            if n < 0:
                raise NoChatTemplate("llama.cpp does not know the model's chat template; use a plain prompt.")
            if n <= size:
                return buffer.raw[:n].decode("utf-8", "replace")
            size = n

    def close(self) -> None:
        """Free the vocabulary; calling it again does nothing."""
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TextStream:
    """Decodes token by token, holding back the bytes of a character until it is whole."""

    def __init__(self, tokenizer: Tokenizer, special: bool) -> None:
        self._tokenizer = tokenizer
        self._special = special
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Return the text that `token` completes, often one word, sometimes nothing."""
        return self._decoder.decode(self._tokenizer.piece(token, special=self._special))

    def finish(self) -> str:
        """Return what is still held back; an unfinished character becomes U+FFFD."""
        return self._decoder.decode(b"", final=True)


def _token(token: int) -> int | None:
    return None if token == _NO_TOKEN else int(token)
