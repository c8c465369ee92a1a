"""What a provider would have answered to a few texts, and what an auditor would find instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from hypercluster.market.trust.audit import Kind
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.llama import LlamaError
from hypercluster.node.engine.profile import Backend, profile
from hypercluster.node.engine.steps import StepOutput
from hypercluster.node.replay.comparing import WIDER
from hypercluster.node.replay.variations import COMPANY, Variation
from hypercluster.node.rows import Float32s, Payload, TopK, join
from hypercluster.node.shards.store import StoredModel

TOP_K = 64
PROMPT = 16
TEXTS = 4
TOKENS = 96


@dataclass(frozen=True)
class Answers:
    """Outputs to the texts: activations float32 [n, width] of layers [0, m - 1), and candidates of the whole model."""

    body: list[Float32s]
    tail: list[TopK]


class Bench:
    """The two shards that are measured, and this machine's profile."""

    def __init__(self, stored: StoredModel, threads: int) -> None:
        self.stored, self.threads = stored, threads
        self.layers = stored.manifest.layers
        self.profile = profile(Backend(), threads=threads, chunk=64)

    def engine(self, kind: Kind, variation: Variation, tokens: int) -> Engine:
        """An engine of layers [0, m - 1), or of the whole model; of all of it in any case where m is 1."""
        stop = self.layers if kind == "tail" else max(1, self.layers - 1)
        sessions = 1 + COMPANY if variation.company else 1
        return Engine(
            self.stored.shard(0, stop),
            first=True,
            last=kind == "tail",
            n_ctx_total=tokens * sessions,
            max_sessions=sessions,
            threads=variation.threads,
            chunk=variation.chunk,
            repack=variation.repack,
            apart=False,  # many short runs of a model of one's own
            **variation.backend.settings(),
        )


Progress = Callable[[int], None]
"""gets 1 after each text that went through one engine"""


def _nothing(_done: int) -> None:
    """Nobody looks on."""


def write_texts(
    bench: Bench, texts: int, tokens: int, seed: int, progress: Progress = _nothing
) -> list[list[int]]:
    """Texts that the model writes itself, from random beginnings and by drawing: what it will be used on."""
    draw = np.random.default_rng(seed)
    written = []
    with bench.engine("tail", Variation("writer", threads=bench.threads), tokens) as engine:
        for _ in range(texts):
            ids = [int(i) for i in draw.integers(0, engine.n_vocab, min(PROMPT, tokens - 1))]
            slot, position = engine.open(tokens), 0
            while len(ids) < tokens:
                output = engine.submit(slot, position, _ids(ids[position:]), "last", TOP_K).result()
                position = len(ids)
                assert output.topk is not None
                weights = np.exp(output.topk.logits[0].astype(np.float64) - output.topk.logsumexp[0])
                ids.append(int(draw.choice(output.topk.ids[0], p=weights / weights.sum())))
            engine.close(slot)
            written.append(ids)
            progress(1)
    return written


def serve(
    bench: Bench, variation: Variation, texts: list[list[int]], progress: Progress = _nothing
) -> Answers | None:
    """What a provider would have answered: a prompt, then token after token. None where it cannot be had here."""
    results: dict[Kind, list[list[StepOutput]]] = {"body": [], "tail": []}
    try:
        for kind, answers in results.items():
            with bench.engine(kind, variation, len(texts[0])) as engine:
                for text in texts:
                    answers.append(_steps(engine, text, texts, variation.company))
                    progress(1)
    except LlamaError:
        progress(2 * len(texts) - sum(map(len, results.values())))
        return None
    body = [
        np.concatenate([output.activations for output in outputs if output.activations is not None])
        for outputs in results["body"]
    ]
    tail = [
        join([output.topk for output in outputs if output.topk is not None]) for outputs in results["tail"]
    ]
    return Answers(body, tail)


def _steps(engine: Engine, text: list[int], others: list[list[int]], company: bool) -> list[StepOutput]:
    slot = engine.open(len(text))
    beside = [engine.open(len(text)) for _ in range(COMPANY)] if company else []
    outputs, position = [], 0
    for stop in range(PROMPT, len(text) + 1):
        # Queued together, so that several can go into one llama_decode.
        waiting = [
            engine.submit(mate, position, _ids(others[i % len(others)][position:stop]), "last", 1)
            for i, mate in enumerate(beside)
        ]
        step = engine.submit(slot, position, _ids(text[position:stop]), "last", TOP_K)
        outputs.append(step.result())
        for other in waiting:
            other.result()
        position = stop
    for used in (slot, *beside):
        engine.close(used)
    return outputs


def _ids(tokens: list[int]) -> Payload:
    return np.array(tokens, np.int32)


@dataclass(frozen=True)
class Audit:
    """What an auditor finds: by one prefill, and by the same steps again."""

    prefill: Answers
    replay: Answers


def audit(bench: Bench, texts: list[list[int]], progress: Progress = _nothing) -> Audit:
    """What an auditor here finds: by one prefill, and by the same steps."""
    own = Variation("auditor", threads=bench.threads)
    width = WIDER * TOP_K
    prefill, replay = Answers([], []), Answers([], [])
    for kind in ("body", "tail"):
        with bench.engine(kind, own, len(texts[0])) as engine:
            for text in texts:
                slot = engine.open(len(text))
                whole = engine.submit(slot, 0, _ids(text), "all", width).result()
                engine.close(slot)
                slot, position = engine.open(len(text)), 0
                parts = []
                for stop in range(PROMPT, len(text) + 1):
                    parts.append(
                        engine.submit(slot, position, _ids(text[position:stop]), "last", width).result()
                    )
                    position = stop
                engine.close(slot)
                if whole.topk is not None:
                    # The tail put out the last row of the prompt and every row behind it.
                    rows = slice(PROMPT - 1, None)
                    topk = whole.topk
                    prefill.tail.append(TopK(topk.ids[rows], topk.logits[rows], topk.logsumexp[rows]))
                    replay.tail.append(join([part.topk for part in parts if part.topk is not None]))
                else:
                    assert whole.activations is not None
                    prefill.body.append(whole.activations)
                    replay.body.append(
                        np.concatenate([p.activations for p in parts if p.activations is not None])
                    )
                progress(1)
    return Audit(prefill, replay)
