"""What a model asks of those who split it and serve it: how wide a boundary is, where ranges may begin."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypercluster.node.shards.blueprint import MAX_WIDTH, Blueprint
from hypercluster.node.shards.errors import UnsupportedModel

if TYPE_CHECKING:
    from hypercluster.node.shards.model import ModelFile

_SHARED_KV = "attention.shared_kv_layers"


@dataclass(frozen=True)
class Traits:
    """`width` is the float32 numbers of a token that cross a boundary. Layers read the token ids too where it
    `reads_tokens`. `starts` are the layers where a range may begin, in order, with 0 (None: every layer). Where it
    `rewinds` its caches can forget the last tokens; where it `shares`, several sequences may run in one batch and a
    prefix be kept for others.
    """

    width: int
    reads_tokens: bool
    starts: tuple[int, ...] | None
    rewinds: bool
    shares: bool


def traits_of(model: ModelFile) -> Traits:
    """The traits of a whole model. Raises UnsupportedModel."""
    return traits_of_blueprint(model.blueprint)


def traits_of_blueprint(model: Blueprint) -> Traits:
    """The same, of a model without its weights."""
    rule = model.rule
    return Traits(width(model), reads_tokens(model), starts(model), rule.rewinds, rule.shares)


def width(model: Blueprint) -> int:
    """Numbers of a token that cross a boundary. Raises UnsupportedModel beyond MAX_WIDTH."""
    streams = model.rule.streams
    if isinstance(streams, str):
        streams = model.number(streams, 1, 64, default=1)
    if model.n_embd * streams > MAX_WIDTH:
        raise UnsupportedModel(
            f"{model.n_embd * streams} numbers of a token cross a boundary; at most {MAX_WIDTH} can."
        )
    return model.n_embd * streams


def reads_tokens(model: Blueprint) -> bool:
    """Whether layers behind the first read the token ids."""
    return model.rule.tokens or reads_embedding(model)


def reads_embedding(model: Blueprint) -> bool:
    """Whether layers behind the first compute with the embeddings of the tokens, so that every shard has the table."""
    key = model.rule.embedded
    return key is not None and model.number(key, 0, MAX_WIDTH, default=0) > 0


def starts(model: Blueprint) -> tuple[int, ...] | None:
    """The layers where a range may begin; None where every layer will do."""
    allowed = [True] * model.layers
    if model.rule.starts and (flags := model.flags(model.rule.starts)) is not None:
        allowed = flags[: model.layers]
    if model.rule.ends and (flags := model.flags(model.rule.ends)) is not None:
        allowed = [may and (layer == 0 or flags[layer - 1]) for layer, may in enumerate(allowed)]
    borrowing = model.number(_SHARED_KV, 0, model.layers, default=0)
    owners = min(model.layers - borrowing, model.rule.owners or model.layers)
    if owners < model.layers:  # the last layers use the caches of the last two owners
        allowed = [may and layer <= owners - 2 for layer, may in enumerate(allowed)]
    if all(allowed):
        return None
    return (0, *(layer for layer in range(1, model.layers) if allowed[layer]))
