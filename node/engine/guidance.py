"""The grammars of formats, and what of a vocabulary they allow next: llguidance behind exceptions.

llguidance never raises for a grammar or a token; it falls into an error that has to be asked for. Its work and memory
are bounded by limits of its own, so that a schema from strangers costs some ms a token at most.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeVar

import llguidance
import numpy as np
import numpy.typing as npt
from llguidance import TokenizerWrapper

from hypercluster.node.engine.grammar import BadFormat
from hypercluster.node.errors import NodeError

T = TypeVar("T")
STACK = 256 << 20
"""bytes of address space; only what is used takes memory"""
_STACKS = threading.Lock()
_LIMITS = llguidance.LLParserLimits(
    max_lexer_states=30_000, max_grammar_size=200_000, initial_lexer_fuel=1_000_000, verbose_errors=False
)


_SAYINGS = (
    (
        "Unimplemented keys",
        "The schema uses what is not supported here: {}. Leave it out, or ask without strict.",
    ),
    (
        "Unknown format",
        "The schema has the format {}, which is not supported; leave it out, or ask without strict.",
    ),
    ("recursion limit exceeded", "The schema is nested too deeply."),
    (
        "Default retriever does not fetch",
        "The schema refers to another document; only references within it work.",
    ),
    ("Unsatisfiable schema", "Nothing fits the schema: {}."),
)
"""what llguidance says, and how people are told"""


_EXCERPT = re.compile(r"\n\s+1 \|")
"""where it begins to show the grammar"""


class FormatLost(NodeError):
    """The grammar of a format can be followed no further: it became too complex, or nothing may come."""


class Guide:
    """A vocabulary as llguidance wants it. Takes about 1 s for 150,000 tokens, for one thread.

    Args:
        pieces: the bytes of each token.
        special: tokens that stand for themselves only, never for their letters.
        ends: tokens that end an answer.
        encode: the ids of a text.
    """

    def __init__(
        self,
        pieces: Iterable[bytes],
        special: frozenset[int],
        ends: frozenset[int],
        encode: Callable[[str], list[int]],
    ) -> None:
        words = [b"\xff" + piece if i in special else piece for i, piece in enumerate(pieces)]
        self._words = words
        self._ends = np.array(sorted(ends), np.intp)
        self._tokenizer = llguidance.LLTokenizer(
            TokenizerWrapper(_Words(words, ends, encode)), eos_token=sorted(ends) or None
        )

    def follow(self, grammar: str) -> Matching:
        """Begin an answer of this grammar. Raises BadFormat."""
        return Matching(self._words, self._ends, _with_room(lambda: self._matcher(grammar)))

    def _matcher(self, grammar: str) -> llguidance.LLMatcher:
        matcher = llguidance.LLMatcher(self._tokenizer, grammar, log_level=0, limits=_LIMITS)
        if matcher.is_error():
            raise BadFormat(_said(matcher.get_error()))
        return matcher


class Matching:
    """One answer on its way through a grammar."""

    def __init__(
        self, words: Sequence[bytes], ends: npt.NDArray[np.intp], matcher: llguidance.LLMatcher
    ) -> None:
        self._words, self._ends, self._matcher = words, ends, matcher

    @property
    def complete(self) -> bool:
        """Whether the answer has its form and nothing but its end can follow."""
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    def mask(self) -> npt.NDArray[np.bool_]:
        """Which tokens may come next, [n_vocab]; those that end the answer only where it may end. Raises FormatLost."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        self._check()
        return np.unpackbits(bits, count=len(self._words), bitorder="little").view(np.bool_)

    def likely(self, allowed: npt.NDArray[np.intp]) -> int | None:
        """Of the tokens that may come, one that ends the answer, or the longest of what must come in any case."""
        if (ends := np.intersect1d(self._ends, allowed)).size:
            return int(ends[0])
        forced = self._matcher.compute_ff_bytes()
        fitting = [
            token
            for token in allowed.tolist()
            if self._words[token] and forced.startswith(self._words[token])
        ]
        return max(fitting, key=lambda token: len(self._words[token]), default=None) if forced else None

    def accept(self, token: int) -> None:
        """Go on by a token. Raises FormatLost for one outside the grammar."""
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise FormatLost(f"The format cannot be followed any further: {_line(self._matcher.get_error())}")


class _Words:
    """What llguidance reads of a vocabulary."""

    bos_token_id = None
    special_token_ids: tuple[int, ...] = ()

    def __init__(self, tokens: list[bytes], ends: frozenset[int], encode: Callable[[str], list[int]]) -> None:
        self.tokens = tokens
        self.eos_token_id = min(ends, default=0)
        self._encode = encode

    def __call__(self, text: bytes | str) -> list[int]:
        return self._encode(text if isinstance(text, str) else text.decode("utf-8", "replace"))


def check_grammar(grammar: str) -> None:
    """Refuse a grammar that is wrong, or holds what is not supported. Raises BadFormat."""
    validate = llguidance.LLMatcher.validate_grammar_with_warnings
    wrong, messages = _with_room(lambda: validate(grammar, None, limits=_LIMITS))
    # control tokens can be looked up only where there is a vocabulary
    if wrong and "no tokenizer" not in messages[0]:
        raise BadFormat(_said(messages[0]))


def _with_room(work: Callable[[], T]) -> T:
    """What the work gives, done on a stack of its own: llguidance goes down one call for each rule or definition that
    leads to another, and the end of a stack is the end of the process.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            future.set_exception(error)

    with _STACKS:
        before = threading.stack_size(STACK)
        try:
            thread = threading.Thread(target=run, name="grammar", daemon=True)
            thread.start()
        except RuntimeError as error:
            raise BadFormat("There is no memory to check a schema or grammar.") from error
        finally:
            threading.stack_size(before)
    thread.join()
    return future.result()


def _said(message: str) -> str:
    """What llguidance says, as one sentence."""
    line = _line(message)
    for found, instead in _SAYINGS:
        if found in line:
            return instead.format(line.partition(found)[2].strip(' :[]".'))
    return f"The schema or grammar is not supported: {line}"


def _line(message: str) -> str:
    line = " ".join(_EXCERPT.split(message)[0].split()).removesuffix(" <non-verbose/>")
    line = line.partition("failed to compile JSON schema: ")[2] or line
    return f"{line[:300].rstrip('.')}."
