"""Answers of an unsplit model through a client's own drawing, without a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hypercluster.node.client.completion import Completion
from hypercluster.node.client.drawing import Drawing, Drawn
from hypercluster.node.client.model import Model
from hypercluster.node.client.request import Request
from hypercluster.node.engine import reference
from hypercluster.node.engine.ranking import best
from hypercluster.node.engine.replies import Piece
from hypercluster.node.rows import TopK

Run = Callable[[Sequence[int], int, Callable[[TopK], int]], None]


def model_of(path: Path) -> Model:
    """A model file as a client knows it; to be closed."""
    model = Model(model_id="00" * 32, layers=0, n_vocab=0, vocabulary=lambda: path)
    return Model(model_id="00" * 32, layers=0, n_vocab=model.tokenizer.n_vocab, vocabulary=lambda: path)


def answered(
    path: Path, model: Model, request: Request, k: int | None = None
) -> tuple[Completion, list[Drawn]]:
    """What comes of a request, drawn from the k best of each row, and each token that was drawn."""
    most = k or min(request.wanted_top_k, model.n_vocab)

    def run(prompt: Sequence[int], tokens: int, choose: Callable[[TopK], int]) -> None:
        chunk = max(64, len(prompt))
        reference.generate(
            path, prompt, tokens, 2, chunk=chunk, choose=lambda logits: choose(best([logits], most))
        )

    return drawn_by(run, model, request)


def drawn_by(run: Run, model: Model, request: Request) -> tuple[Completion, list[Drawn]]:
    """The same of whatever runs the prompt and so many tokens, each the one that is chosen from the row before it."""
    done = Completion("test", prompt=tuple(model.encode(request.prompt)))
    stream, drawn = model.stream(request), list[Drawn]()

    def choose(row: TopK) -> int:
        if done.finish == "stop":
            return 0
        found = drawing.draw(row)
        drawn.append(found)
        if not found.ends:
            done.tokens.append(found.id)
            done.text += stream.push(found.id)
        if found.ends or found.last:
            done.finish = "stop"
        return found.id

    done.finish = "length"
    with Drawing(model, request, done) as drawing:
        run(done.prompt, request.allowance.tokens, choose)
    return done, drawn


def pieces_of(model: Model, request: Request, text: str) -> list[Piece]:
    """The answer taken apart."""
    reply = model.reply(request)
    return reply.push(text) + reply.finish()
