"""Text to tokens and back on a vocabulary-only GGUF, with llama.cpp's own tokenizers; chats, whose words stay words."""

from __future__ import annotations

import codecs
import ctypes
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import llama_cpp as native

from hypercluster.node.engine.chat import Chat, ChatError, Message
from hypercluster.node.engine.forms import Form, form_of
from hypercluster.node.engine.llama import LoadedModel
from hypercluster.node.engine.rendering import Controls, Rendered, render
from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from hypercluster.node.engine.guidance import Guide

_NO_TOKEN = -1
_CONTROL = native.LLAMA_TOKEN_ATTR_CONTROL | native.LLAMA_TOKEN_ATTR_UNKNOWN
# Files made before converters knew better hold tokens of turns as ordinary ones, which llama.cpp always reads.
_TURN = re.compile(r"<\|.*\|>|<｜.*｜>|<(start|end)_of_turn>", re.DOTALL)


PLAIN = (
    "{% for turn in messages %}{{ {'user': 'User: ', 'assistant': 'Assistant: '}[turn.role] if turn.role != 'system' }}"
    "{{ turn.content | trim }}\n\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""for models that bring no template; without tokens of its own"""


class TokenizerError(NodeError):
    """A text, token or chat cannot be turned into the other form."""


def _steers(text: str, attributes: int) -> bool:
    return bool(attributes & _CONTROL or _TURN.fullmatch(text))


class Tokenizer:
    """The vocabulary of a model. For one thread at a time; close() frees it. Raises LoadFailed."""

    def __init__(self, vocabulary: Path) -> None:
        self._model = LoadedModel(vocabulary, vocab_only=True)
        vocab = self._model.vocab
        if native.llama_vocab_type(vocab) == native.LLAMA_VOCAB_TYPE_NONE:
            self._model.close()
            raise TokenizerError(f"{vocabulary} holds no vocabulary.")
        self.n_vocab = self._model.n_vocab
        self.bos: int | None = _token(native.llama_vocab_bos(vocab))
        self.eos: int | None = _token(native.llama_vocab_eos(vocab))
        self.chat_template = self._model.chat_template()
        self._thinks: dict[bool | None, bool] = {}

    @cached_property
    def end_ids(self) -> frozenset[int]:
        """Every token that ends a generation (end of text, of turn, of message)."""
        vocab = self._model.vocab
        return frozenset(i for i in range(self.n_vocab) if native.llama_vocab_is_eog(vocab, i))

    @cached_property
    def control_ids(self) -> dict[str, int]:
        """The tokens that steer the model, by the text that spells them in a chat template."""
        return {text: i for i, (text, attributes) in self._special.items() if _steers(text, attributes)}

    @cached_property
    def form(self) -> Form:
        """How the model writes thoughts and calls, as far as its template shows it."""
        return form_of(self.chat_template)

    @cached_property
    def marks(self) -> frozenset[int]:
        """Tokens that stand for the marks of its form."""
        return frozenset(self.control_ids[text] for text in self.form.marks if text in self.control_ids)

    @cached_property
    def guide(self) -> Guide:
        """The vocabulary for grammars. Takes a second at first."""
        from hypercluster.node.engine.guidance import Guide  # llguidance, which few need

        pieces = (self.piece(i, special=True) for i in range(self.n_vocab))
        special = frozenset(self.control_ids.values()) - self.marks
        return Guide(pieces, special, self.end_ids, self._inside)

    def _inside(self, text: str) -> list[int]:
        """The ids of a text that goes on another one, before which no tokenizer puts a space."""
        ids = self.encode("\x02" + text, add_special=False)
        at = next((at for at, token in enumerate(ids) if self.piece(token) == b"\x02"), None)
        return self.encode(text, add_special=False) if at is None else ids[at + 1 :]

    def thinks(self, reasoning: bool | None) -> bool:
        """Whether an answer begins within thoughts, because the template opens them. Takes some 50 ms at first."""
        if self.form.tags is None:
            return False
        if reasoning not in self._thinks:
            chat = Chat((Message("user", "Hello"),), reasoning=reasoning)
            try:
                text = self.render_chat(chat)
            except ChatError:
                text = ""
            self._thinks[reasoning] = text.rstrip().endswith(self.form.tags[0])
        return self._thinks[reasoning]

    @cached_property
    def _special(self) -> dict[int, tuple[str, int]]:
        """Text and attributes of every token that llama.cpp does not take for a part of ordinary text."""
        vocab, wanted = self._model.vocab, _CONTROL | native.LLAMA_TOKEN_ATTR_USER_DEFINED
        found = {}
        for i in range(self.n_vocab):
            attributes = native.llama_vocab_get_attr(vocab, i)
            if attributes & wanted:
                found[i] = native.llama_vocab_get_text(vocab, i).decode("utf-8", "replace"), attributes
        return found

    @cached_property
    def _controls(self) -> Controls:
        return Controls(self.control_ids)

    @cached_property
    def _always_read(self) -> Controls:
        """Those of the controls that llama.cpp reads in any text."""
        return Controls(text for text, i in self.control_ids.items() if not self._special[i][1] & _CONTROL)

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = False) -> list[int]:
        """Return the token ids of `text`.

        `add_special` puts the tokens in front (and behind) that the model asks for; `parse_special` reads
        control tokens spelled out in the text, which a text from strangers should not be able to do.
        """
        pieces = [text] if parse_special else self._always_read.pieces(text)
        if len(pieces) < 2:
            return self._encode(text, add_special, parse_special)
        ends = self._encode("", add_special, parse_special)
        front = ends[: native.llama_vocab_get_add_bos(self._model.vocab)]
        ids = [i for piece in pieces for i in self._encode(piece, add_special=False, parse_special=False)]
        return front + ids + ends[len(front) :]

    def _encode(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
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

    def stream(self, *, special: bool = False, shown: frozenset[int] = frozenset()) -> TextStream:
        """Return a decoder that takes one token after the other, control tokens as nothing unless they are `shown`."""
        return TextStream(self, special, shown)

    def encode_chat(self, chat: Chat | Sequence[Message], *, add_assistant: bool = True) -> list[int]:
        """Return the ids of a chat, by default one that is to be continued by the assistant.

        The control tokens among them are those that the model's template writes, and the one in front that the
        model wants; what the messages spell out stays text. Raises NoChatTemplate, ChatRefused.
        """
        rendered = self._rendered(chat, add_assistant)
        ids: list[int] = []
        at, strip = 0, False
        for found in self._controls.within(rendered.guarded):
            token = self.control_ids[found[0]]
            attributes = self._special[token][1]
            words = rendered.guarded[at : found.start()]
            words = words.lstrip() if strip else words
            words = words.rstrip() if attributes & native.LLAMA_TOKEN_ATTR_LSTRIP else words
            ids += [*self._words(words, rendered.guard), token]
            at, strip = found.end(), bool(attributes & native.LLAMA_TOKEN_ATTR_RSTRIP)
        words = rendered.guarded[at:]
        ids += self._words(words.lstrip() if strip else words, rendered.guard)
        if (
            self.bos is not None
            and native.llama_vocab_get_add_bos(self._model.vocab)
            and ids[:1] != [self.bos]
        ):
            ids.insert(0, self.bos)
        return ids

    def _words(self, guarded: str, guard: str) -> list[int]:
        text = guarded.replace(guard, "")
        return self.encode(text, add_special=False) if text else []

    def render_chat(self, chat: Chat | Sequence[Message], *, add_assistant: bool = True) -> str:
        """Return the chat as the model's template writes it. Raises NoChatTemplate, ChatRefused."""
        return self._rendered(chat, add_assistant).text

    def _rendered(self, chat: Chat | Sequence[Message], add_assistant: bool) -> Rendered:
        return render(
            self.chat_template or PLAIN,
            chat,
            self._controls,
            bos=self._text(self.bos),
            eos=self._text(self.eos),
            add_assistant=add_assistant,
        )

    def _text(self, token: int | None) -> str:
        if token is None:
            return ""
        text: bytes = native.llama_vocab_get_text(self._model.vocab, token)
        return text.decode("utf-8", "replace")

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

    def __init__(self, tokenizer: Tokenizer, special: bool, shown: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self._special, self._shown = special, shown
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """Return the text that `token` completes, often one word, sometimes nothing."""
        special = self._special or token in self._shown
        return self._decoder.decode(self._tokenizer.piece(token, special=special))

    def finish(self) -> str:
        """Return what is still held back; an unfinished character becomes U+FFFD."""
        return self._decoder.decode(b"", final=True)


def _token(token: int) -> int | None:
    return None if token == _NO_TOKEN else int(token)
