"""How far apart honest computations of one model are, and the bounds for audits that follow from it.

The model writes a few texts of its own. What a provider would have answered is computed in every honest way that
this machine knows, and compared with what an auditor here would find: by one prefill, and by the same steps again.
Other machines can record their answers to the same texts (`record`), which then count as honest as well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hypercluster.market.trust.audit import (
    Bounds,
    Candidates,
    Difference,
    Kind,
    Limits,
    Tier,
    compare_candidates,
    compare_rows,
)
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.llama import Floats, LlamaError
from hypercluster.node.engine.profile import Backend, profile
from hypercluster.node.engine.steps import Outputs, StepOutput
from hypercluster.node.errors import NodeError
from hypercluster.node.replay.replayer import WIDER
from hypercluster.node.rows import TopK, join
from hypercluster.node.shards.store import StoredModel

TOP_K = 64
COMPANY = 3
"""sessions that share the engine with the one that is looked at"""
PROMPT = 16
TEXTS = 4
TOKENS = 96

Progress = Callable[[int], None]


class BadRecording(NodeError):
    """A file of recorded answers that is malformed or of another model."""


@dataclass(frozen=True, slots=True)
class Variation:
    """One honest way to serve: a backend, its threads and prefill size, and whether it serves others as well."""

    name: str
    backend: Backend = field(default_factory=Backend)
    threads: int = 1
    chunk: int = 64
    company: bool = False
    f16: bool = False
    """activations travel as f16"""
    repack: bool = True
    """weights rearranged for the processor where llama.cpp can"""

    def is_own(self, own: str) -> bool:
        """Whether a provider like this has the profile `own`."""
        return self.repack and profile(self.backend, threads=self.threads, chunk=self.chunk) == own


def variations(threads: int) -> list[Variation]:
    """Every honest way to serve that llama.cpp offers on this machine."""
    flash = Backend(flash_attention=True)
    return [
        Variation("alone"),
        Variation("in company", company=True),
        Variation(f"{threads + 1} threads", threads=threads + 1),
        Variation("f16 on the wire", f16=True),
        Variation("prefill by 16", chunk=16),
        Variation("prefill by 128", chunk=128),
        Variation("cache f32", Backend(kv_type="f32")),
        Variation("cache bf16", Backend(kv_type="bf16")),
        Variation("flash attention", flash),
        Variation(f"flash attention, {threads + 1} threads", flash, threads=threads + 1),
        Variation("flash attention, cache q8_0", Backend(flash_attention=True, kv_type="q8_0")),
        Variation("weights not rearranged", repack=False),
    ]


@dataclass(frozen=True)
class Answers:
    """Outputs to the texts: activations float32 [n, width] of layers [0, m - 1), and candidates of the whole model."""

    body: list[Floats]
    tail: list[TopK]


def calibrate(
    stored: StoredModel,
    *,
    threads: int = 1,
    texts: int = TEXTS,
    tokens: int = TOKENS,
    recordings: Sequence[Path] = (),
    seed: int = 0,
    progress: Progress = lambda done: None,
) -> Bounds:
    """Measure and return the bounds of a model; `progress` gets 1 after each of `steps(...)` pieces of work.

    Args:
        threads: that audits will use here.
        texts, tokens: how many texts of how many tokens; longer ones show more of how errors grow.
        recordings: files that `record` wrote on other machines.

    Raises:
        ModelMissing, ShardError, LlamaError: the whole model is not here or does not load.
        BadRecording: a file cannot be used.
    """
    bench = _Bench(stored, threads)
    tokens = min(tokens, stored.manifest.context)
    written = _write_texts(bench, texts, tokens, seed)
    progress(1)
    own = _audit(bench, written)
    progress(1)
    measured: list[dict[str, Any]] = []
    honest: dict[Kind, dict[Tier, list[Difference]]] = {
        kind: {"prefill": [], "replay": [], "foreign": []} for kind in ("body", "tail")
    }

    def note(name: str, tiers: Sequence[tuple[Tier, _Own]], claimed: Answers, f16: bool = False) -> None:
        for tier, mine in tiers:
            for kind in ("body", "tail"):
                found = _differences(kind, claimed, mine, f16)
                honest[kind][tier] += found
                worst = max(found, key=lambda difference: difference.maximum)
                measured.append({"variation": name, "kind": kind, "comparison": tier, **asdict(worst)})

    for variation in variations(threads):
        served = _serve(bench, variation, written)
        progress(1)
        if served is None:
            continue
        tiers: list[tuple[Tier, _Own]] = [("foreign", own.prefill)]
        if variation.is_own(bench.profile):
            tiers += [("prefill", own.prefill), ("replay", own.replay)]
        note(variation.name, tiers, served, variation.f16)
    for path in recordings:
        there, name, texts_there = _read_recording(path, stored)
        note(name, [("foreign", _audit(bench, texts_there).prefill)], there)
        progress(1)
    limits: dict[Kind, dict[Tier, Limits]] = {
        kind: {tier: Limits.around(found, tier) for tier, found in tiers.items()}
        for kind, tiers in honest.items()
    }
    return Bounds(stored.manifest.model_id, limits, tuple(measured))


def steps(threads: int, recordings: int = 0) -> int:
    """How often `calibrate` reports progress."""
    return 2 + len(variations(threads)) + recordings


def record(
    stored: StoredModel,
    path: Path,
    *,
    threads: int = 1,
    texts: int = TEXTS,
    tokens: int = TOKENS,
    seed: int = 0,
) -> None:
    """Write texts and this machine's answers to a file, for `calibrate` on another machine."""
    bench = _Bench(stored, threads)
    written = _write_texts(bench, texts, min(tokens, stored.manifest.context), seed)
    served = _serve(bench, Variation("recorded", threads=threads), written)
    assert served is not None
    arrays: dict[str, npt.NDArray[Any]] = {
        "model_id": np.array(stored.manifest.model_id),
        "profile": np.array(bench.profile),
        "texts": np.array(written),
        "body": np.array(served.body),
    }
    for name in ("ids", "logits", "logsumexp"):
        arrays[name] = np.array([getattr(topk, name) for topk in served.tail])
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def _read_recording(path: Path, stored: StoredModel) -> tuple[Answers, str, list[list[int]]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["model_id"]) != stored.manifest.model_id:
                raise BadRecording(f"{path} was recorded with another model.")
            tail = [
                TopK(ids.astype(np.int32), logits.astype(np.float32), lse.astype(np.float64))
                for ids, logits, lse in zip(file["ids"], file["logits"], file["logsumexp"], strict=True)
            ]
            texts = [[int(token) for token in text] for text in file["texts"]]
            body = [rows.astype(np.float32) for rows in file["body"]]
            finite = all(np.isfinite(rows).all() for rows in body)
            if not (texts and len(texts) == len(body) == len(tail) and finite):
                raise BadRecording(f"{path} holds texts and answers that do not fit together.")
            return Answers(body, tail), f"recorded: {str(file['profile'])[:200]}", texts
    except (OSError, ValueError, KeyError) as error:
        raise BadRecording(f"{path} is no recording: {error}.") from None


class _Bench:
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
            flash_attention=variation.backend.flash_attention,
            kv_type=variation.backend.kv_type,
            repack=variation.repack,
        )


def _write_texts(bench: _Bench, texts: int, tokens: int, seed: int) -> list[list[int]]:
    """Texts that the model writes itself, from random beginnings and by drawing: what it will be used on."""
    draw = np.random.default_rng(seed)
    written = []
    with bench.engine("tail", Variation("writer", threads=bench.threads), tokens) as engine:
        for _ in range(texts):
            ids = [int(i) for i in draw.integers(0, engine.n_vocab, min(PROMPT, tokens - 1))]
            slot, position = engine.open(tokens), 0
            while len(ids) < tokens:
                output = engine.run(slot, position, np.array(ids[position:], np.int32), "last", TOP_K)
                position = len(ids)
                assert output.topk is not None
                weights = np.exp(output.topk.logits[0].astype(np.float64) - output.topk.logsumexp[0])
                ids.append(int(draw.choice(output.topk.ids[0], p=weights / weights.sum())))
            engine.close(slot)
            written.append(ids)
    return written


def _serve(bench: _Bench, variation: Variation, texts: list[list[int]]) -> Answers | None:
    """What a provider would have answered: a prompt, then token after token. None where it cannot be had here."""
    try:
        results: dict[Kind, list[list[StepOutput]]] = {}
        for kind in ("body", "tail"):
            with bench.engine(kind, variation, len(texts[0])) as engine:
                results[kind] = [_steps(engine, text, texts, variation.company) for text in texts]
    except LlamaError:
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
        waiting = [
            _submit(engine, mate, position, others[i % len(others)][position:stop], "last", 1)
            for i, mate in enumerate(beside)
        ]
        done = _submit(engine, slot, position, text[position:stop], "last", TOP_K)
        outputs.append(done())
        for other in waiting:
            other()
        position = stop
    for used in (slot, *beside):
        engine.close(used)
    return outputs


def _submit(
    engine: Engine, slot: int, position: int, tokens: list[int], outputs: Outputs, top_k: int
) -> Callable[[], StepOutput]:
    """Queue a step and return what waits for it, so that several can go into one llama_decode."""
    answered = threading.Event()
    result: list[Any] = []

    def done(answer: object) -> None:
        result.append(answer)
        answered.set()

    engine.submit(slot, position, np.array(tokens, np.int32), done, outputs, top_k)

    def wait() -> StepOutput:
        answered.wait()
        if isinstance(result[0], Exception):
            raise result[0]
        output: StepOutput = result[0]
        return output

    return wait


@dataclass(frozen=True)
class _Own:
    body: list[Floats]
    tail: list[TopK]


@dataclass(frozen=True)
class _Audit:
    prefill: _Own
    replay: _Own


def _audit(bench: _Bench, texts: list[list[int]]) -> _Audit:
    """What an auditor here finds: by one prefill, and by the same steps."""
    own = Variation("auditor", threads=bench.threads)
    width = WIDER * TOP_K
    prefill, replay = _Own([], []), _Own([], [])
    for kind in ("body", "tail"):
        with bench.engine(kind, own, len(texts[0])) as engine:
            for text in texts:
                slot = engine.open(len(text))
                whole = engine.run(slot, 0, np.array(text, np.int32), "all", width)
                engine.close(slot)
                slot, position = engine.open(len(text)), 0
                parts = []
                for stop in range(PROMPT, len(text) + 1):
                    parts.append(
                        engine.run(slot, position, np.array(text[position:stop], np.int32), "last", width)
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
    return _Audit(prefill, replay)


def _differences(kind: Kind, claimed: Answers, own: _Own, f16: bool) -> list[Difference]:
    """Of every text, and of its beginnings: audits end anywhere."""
    found = []
    if kind == "body":
        for theirs, mine in zip(claimed.body, own.body, strict=True):
            if f16:
                theirs, mine = (rows.astype(np.float16).astype(np.float32) for rows in (theirs, mine))
            for stop in _stops(len(mine)):
                found.append(compare_rows(theirs[:stop], mine[:stop]))
        return found
    for given, got in zip(claimed.tail, own.tail, strict=True):
        for stop in _stops(len(got.ids)):
            found.append(compare_candidates(_candidates(given, stop), _candidates(got, stop)))
    return found


def _stops(rows: int) -> list[int]:
    return sorted({min(rows, stop) for stop in (PROMPT + 1, 2 * PROMPT, 3 * PROMPT, rows)})


def _candidates(topk: TopK, stop: int) -> Candidates:
    return Candidates(topk.ids[:stop], topk.logits[:stop], topk.logsumexp[:stop])
