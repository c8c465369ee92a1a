"""What the benchmarks of audits share: models, texts, and stages that serve them step by step in this process."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.profile import profile
from hypercluster.node.engine.steps import Outputs, StepOutput
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.replay.measuring import PROMPT
from hypercluster.node.replay.variations import COMPANY, Variation
from hypercluster.node.rows import (
    Float32s,
    Payload,
    Tokens,
    WireDtype,
    pack_activations,
    pack_tokens,
    unpack_activations,
)
from hypercluster.node.shards.store import StoredModel, demo_model, open_model
from hypercluster.node.wire.records import AuditStep, StageRecord

# The writer of random models belongs to the tests.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.node.helpers.random_models import Shape, write_random_model

MODELS = ("demo", "qwen2", "gpt2")
TOP_K = 40
"""candidates that a client asks for by default"""
GROUP = 1 + COMPANY
"""texts that are served at the same time where a provider has company"""
_SIZES: dict[str, Any] = {"n_embd": 256, "n_ff": 512, "heads": 8, "layers": 6, "context": 512}
SHAPES = {
    "qwen2": Shape(architecture="qwen2", kv_heads=4, quantisation=Type.Q4_0, **_SIZES),
    "gpt2": Shape(architecture="gpt2", kv_heads=8, quantisation=Type.F16, **_SIZES),
}


def opened(name: str, home: Path) -> StoredModel:
    """The demo model, or one with random weights that is written to `home` first."""
    if name == "demo":
        return open_model(demo_model(), home)
    path = home / f"{name}.gguf"
    if not path.exists():
        home.mkdir(parents=True, exist_ok=True)
        write_random_model(path, SHAPES[name])
    return open_model(path, home)


def described(name: str, stored: StoredModel) -> str:
    """A model for a table."""
    manifest = stored.manifest
    origin = "trained" if name == "demo" else "random weights"
    return f"{manifest.architecture} {manifest.quantisation}, {manifest.layers} x {manifest.n_embd}, {origin}"


# --- engines -------------------------------------------------------------------------------------------------


def started(
    stored: StoredModel,
    start: int,
    stop: int,
    tokens: int,
    variation: Variation,
    *,
    sessions: int = 1,
    shard: Path | None = None,
    kind: Callable[..., Engine] = Engine,
) -> Engine:
    """An engine of layers [start, stop) for `sessions` of `tokens` each; `shard` and `kind` are a cheat's."""
    return kind(
        shard or stored.shard(start, stop),
        first=start == 0,
        last=stop == stored.manifest.layers,
        n_ctx_total=tokens * sessions,
        max_sessions=sessions,
        threads=variation.threads,
        chunk=variation.chunk,
        flash_attention=variation.backend.flash_attention,
        kv_type=variation.backend.kv_type,
        repack=variation.repack,
    )


def _together(
    engine: Engine, slots: Sequence[int], position: int, payloads: Sequence[Payload], outputs: Outputs
) -> list[StepOutput]:
    """One step of each session, submitted at the same time, so that the engine may take them in one go."""
    waiting = [
        engine.submit(slot, position, payload, outputs, TOP_K)
        for slot, payload in zip(slots, payloads, strict=True)
    ]
    return [each.result() for each in waiting]


# --- texts ---------------------------------------------------------------------------------------------------


def texts(stored: StoredModel, count: int, tokens: int, seed: int) -> list[list[int]]:
    """`count` texts of PROMPT random token ids and `tokens` that the model itself draws behind them.

    Calibration draws its own from another seed: what is judged was not seen by it.
    """
    draw = np.random.default_rng(seed)
    writer = Variation("writer")
    written: list[list[int]] = []
    with started(
        stored, 0, stored.manifest.layers, PROMPT + tokens, writer, sessions=min(count, 8)
    ) as engine:
        while len(written) < count:
            group = min(engine.max_sessions, count - len(written))
            ids = [[int(i) for i in draw.integers(0, engine.n_vocab, PROMPT)] for _ in range(group)]
            slots = [engine.open(PROMPT + tokens) for _ in ids]
            at = 0
            while len(ids[0]) < PROMPT + tokens:
                step = [np.array(text[at:], np.int32) for text in ids]
                at = len(ids[0])
                answers = _together(engine, slots, at - len(step[0]), step, "last")
                for text, answer in zip(ids, answers, strict=True):
                    assert answer.topk is not None
                    weights = np.exp(answer.topk.logits[0].astype(np.float64) - answer.topk.logsumexp[0])
                    text.append(int(draw.choice(answer.topk.ids[0], p=weights / weights.sum())))
            for slot in slots:
                engine.close(slot)
            written += ids
    return written


def residuals(stored: StoredModel, start: int, written: Sequence[list[int]]) -> list[Float32s]:
    """What the layers before `start` make of each text, float32 [n, width]."""
    rows = []
    with started(stored, 0, start, len(written[0]), Variation("stage before")) as engine:
        for text in written:
            slot = engine.open(len(text))
            output = engine.submit(slot, 0, np.array(text, np.int32)).result()
            engine.close(slot)
            assert output.activations is not None
            rows.append(output.activations)
    return rows


# --- stages that serve ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A stage of a model with the texts that it is to serve, as it gets them.

    Attributes:
        inputs: for each text token ids int32 [n], or activations float32 [n, width] before they travelled.
    """

    stored: StoredModel
    start: int
    stop: int
    inputs: Sequence[Payload]

    @classmethod
    def of(cls, stored: StoredModel, start: int, stop: int, written: Sequence[list[int]]) -> Stage:
        """With these texts."""
        inputs: Sequence[Payload] = (
            residuals(stored, start, written) if start else [np.array(text, np.int32) for text in written]
        )
        return cls(stored, start, stop, inputs)

    @property
    def is_tail(self) -> bool:
        """Whether it answers with candidates."""
        return self.stop == self.stored.manifest.layers

    def record(self, variation: Variation, wire: WireDtype) -> StageRecord:
        """As an auditor hears of it: who serves and pays does not matter here."""
        text = profile(variation.backend, threads=variation.threads, chunk=variation.chunk)
        return StageRecord(
            session=bytes(16),
            nonce=bytes(16),
            channel_id=bytes(32),
            model_id=self.stored.manifest.model_id,
            layer_start=self.start,
            layer_stop=self.stop,
            wire_dtype=wire,
            # A build that does not rearrange weights is another build, which its digest would show.
            profile=text if variation.repack else text + " not rearranged",
            peer="-",
            client="-",
            top_k=TOP_K if self.is_tail else 0,
        )

    def serve(
        self,
        engine: Engine,
        numbers: Sequence[int],
        variation: Variation,
        wire: WireDtype,
    ) -> list[Transcript]:
        """Serve the texts of these numbers, of one length, at the same time: the prompt, then row after row."""
        given = [self._travelled(self.inputs[number], wire) for number in numbers]
        total = len(given[0][0])
        slots = [engine.open(total) for _ in given]
        steps: list[list[AuditStep]] = [[] for _ in given]
        position = 0
        for stop in range(PROMPT, total + 1):
            answers = _together(
                engine, slots, position, [payload[position:stop] for payload, _ in given], "last"
            )
            for served, (_, packed), answer in zip(steps, given, answers, strict=True):
                width = len(packed) // total
                served.append(
                    _as_step(
                        len(served), position, stop, packed[position * width : stop * width], answer, wire
                    )
                )
            position = stop
        for slot in slots:
            engine.close(slot)
        record = self.record(variation, wire)
        return [Transcript(record, tuple(served)) for served in steps]

    def _travelled(self, payload: Payload, wire: WireDtype) -> tuple[Payload, bytes]:
        """An input as the provider reads it, and its bytes."""
        if not self.start:
            return payload, pack_tokens(cast("Tokens", payload))
        packed = pack_activations(cast("Float32s", payload), wire)
        return unpack_activations(packed, len(payload), payload.shape[1], wire), packed


def _as_step(
    seq: int, position: int, stop: int, given: bytes, answer: StepOutput, wire: WireDtype
) -> AuditStep:
    packed, outputs = answer.packed(wire)
    return AuditStep(seq, position, stop - position, outputs, given, packed)


def shortened(transcript: Transcript, generated: int) -> Transcript:
    """The same stage when only `generated` tokens had been served behind the prompt."""
    return Transcript(transcript.record, transcript.steps[: generated + 1])
