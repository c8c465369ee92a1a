"""What a client runs, and all that only the model itself can say: what a text is in tokens, what an answer means."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path as File
from typing import TYPE_CHECKING

from hypercluster.node.client.request import BadRequest
from hypercluster.node.engine.chat import Chat
from hypercluster.node.engine.grammar import ToolUse, supported

if TYPE_CHECKING:
    from hypercluster.node.client.request import Request
    from hypercluster.node.engine.chat import Message
    from hypercluster.node.engine.guidance import Matching
    from hypercluster.node.engine.replies import Reply
    from hypercluster.node.engine.tokenizer import TextStream, Tokenizer

Prompt = str | Sequence[int] | Sequence["Message"] | Chat


@dataclass(frozen=True, kw_only=True)
class Model:
    """What a client runs: the model's id (64 hex digits), its sizes, and its vocabulary, which is loaded when needed.

    `vocabulary` gives the file of it. To be closed.
    """

    model_id: str
    layers: int
    n_vocab: int
    vocabulary: Callable[[], File]
    starts: tuple[int, ...] | None = None
    """the layers where ranges may begin; None: anywhere"""
    reads_tokens: bool = False
    """its layers take the token ids beside the activations"""
    certified: frozenset[str] = frozenset()
    """types on the wire beside f32 that do it no harm"""

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary in llama.cpp. Raises TokenizerError, ShardError."""
        from hypercluster.node.engine.tokenizer import (
            Tokenizer,  # llama.cpp, which a look at providers needs not
        )

        return Tokenizer(self.vocabulary())

    def close(self) -> None:
        """Free the vocabulary, if it was loaded."""
        if "tokenizer" in self.__dict__:
            self.tokenizer.close()

    def encode(self, prompt: Prompt) -> list[int]:
        """The token ids of a prompt, whichever form it has. Raises BadRequest, TokenizerError, ChatError."""
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt)
        if (chat := chat_of(prompt)) is None:
            ids = [part for part in prompt if isinstance(part, int)] if not isinstance(prompt, Chat) else []
            if ids and max(ids) >= self.n_vocab:  # a provider would refuse it, and look as if it had failed
                raise BadRequest(f"The prompt holds the token {max(ids)}; this model has {self.n_vocab}.")
            return ids
        self.tokenizer.thinks(chat.reasoning)  # known from here on, whoever asks
        return self.tokenizer.encode_chat(chat)

    def stream(self, request: Request) -> TextStream:
        """What makes text of the tokens of an answer. The marks around thoughts and calls are in that of a chat."""
        chat = chat_of(request.prompt)
        return self.tokenizer.stream(shown=self.tokenizer.marks if chat else frozenset())

    def stops(self, request: Request) -> tuple[str, ...]:
        """Texts at which an answer ends: also where a model without a template would speak for the user."""
        plain = chat_of(request.prompt) is not None and not self.tokenizer.chat_template
        return (*request.stop, "\nUser:") if plain else request.stop

    def matching(self, request: Request) -> Matching | None:
        """What the format of a request allows, from the first token on; None where it allows everything.

        Takes a second when it is first asked. Raises BadFormat.
        """
        from hypercluster.node.engine.lark import grammar_of

        format_, form = request.format, self.tokenizer.form
        if isinstance(format_, ToolUse):
            if format_.choice == "auto" and not form.calls.triggered:
                return None
            format_ = supported(format_)
        if format_ is None:
            return None
        chat = chat_of(request.prompt)
        if chat is None:
            return self.tokenizer.guide.follow(grammar_of(format_))
        thinking = self.tokenizer.thinks(chat.reasoning)
        return self.tokenizer.guide.follow(grammar_of(format_, form, thinking=thinking))

    def reply(self, request: Request) -> Reply:
        """What takes the answer to a request apart, as the model's template writes thoughts and calls of tools."""
        from hypercluster.node.engine.replies import Reply

        chat, tokenizer, format_ = chat_of(request.prompt), self.tokenizer, request.format
        if chat is None:
            return Reply()
        use = format_ if isinstance(format_, ToolUse) else None
        return Reply(
            tokenizer.form,
            tools={tool.name for tool in use.tools} if use else (),
            sure=use is not None and (use.choice != "auto" or tokenizer.form.calls.triggered),
            thinking=lambda: tokenizer.thinks(chat.reasoning),
            trim=not tokenizer.chat_template,
        )


def chat_of(prompt: Prompt) -> Chat | None:
    """The chat that a prompt is, if it is one."""
    if isinstance(prompt, str | Chat):
        return prompt if isinstance(prompt, Chat) else None
    turns = tuple(part for part in prompt if not isinstance(part, int))
    return Chat(turns) if turns else None
