"""Stages served in this process: a transcript as a provider and a client would hold it, without a network."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import coincurve
import numpy as np

from hypercluster.market.trust import merkle
from hypercluster.market.trust.audit import Bounds
from hypercluster.market.trust.receipt import DisputeDomain
from hypercluster.node.client.auditing.traps import Planted, plant, reordered
from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.profile import Backend, profile
from hypercluster.node.engine.steps import StepOutput
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.identity import peer_of_key
from hypercluster.node.rows import (
    Float32s,
    WireDtype,
    pack_activations,
    pack_tokens,
    unpack_activations,
    unpack_input,
)
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.wire.records import AuditStep, StageRecord

DOMAIN = DisputeDomain("0x" + "11" * 20, 31337)
KEY = bytes(31) + b"\x05"

Tamper = Callable[[int, StepOutput], StepOutput]


def stage_record(
    stored: StoredModel, start: int, stop: int, *, key: bytes = KEY, **changes: object
) -> StageRecord:
    fields: dict[str, object] = {
        "session": secrets.token_bytes(16),
        "nonce": secrets.token_bytes(16),
        "channel_id": secrets.token_bytes(32),
        "model_id": stored.manifest.model_id,
        "layer_start": start,
        "layer_stop": stop,
        "wire_dtype": WireDtype.F32,
        "profile": profile(Backend(), threads=1, chunk=64),
        "peer": peer_of_key(key),
        "client": peer_of_key(bytes(31) + b"\x06"),
        "top_k": 16 if stop == stored.manifest.layers else 0,
    }
    return StageRecord(**(fields | changes))  # type: ignore[arg-type]


def served(
    stored: StoredModel,
    start: int,
    stop: int,
    tokens: Sequence[int],
    *,
    prompt: int = 8,
    places: Sequence[tuple[int, int]] | None = None,
    shard: Path | None = None,
    residual: Float32s | None = None,
    tamper: Tamper = lambda slot, output: output,
    backend: Backend | None = None,
    dtype: WireDtype = WireDtype.F32,
    key: bytes = KEY,
    domain: DisputeDomain = DOMAIN,
) -> Transcript:
    """Serve tokens as one prompt and then one by one; layers behind the first get `residual`, or random activations.

    `places` are position and rows of each step, if it shall go otherwise: the tokens are taken in that order.
    """
    backend = backend or Backend()
    layers = stored.manifest.layers
    record = stage_record(
        stored,
        start,
        stop,
        key=key,
        wire_dtype=dtype,
        profile=profile(backend, threads=1, chunk=64),
    )
    draw = np.random.default_rng(0)
    if residual is None:
        residual = draw.standard_normal((len(tokens), stored.manifest.width)).astype(np.float32)
    steps: list[AuditStep] = []
    at = 0
    places = places or [(0, prompt), *((position, 1) for position in range(prompt, len(tokens)))]
    with Engine(
        shard or stored.shard(start, stop),
        first=start == 0,
        last=stop == layers,
        n_ctx_total=len(tokens),
        max_sessions=1,
        threads=1,
        flash_attention=backend.flash_attention,
        kv_type=backend.kv_type,
        apart=False,
    ) as engine:
        slot = engine.open(len(tokens))
        for position, rows in places:
            if start == 0:
                payload = np.array(tokens[at : at + rows], np.int32)
                packed = pack_tokens(payload)
            else:
                packed = pack_activations(residual[at : at + rows], dtype)
                payload = unpack_activations(packed, rows, stored.manifest.width, dtype)  # type: ignore[assignment]
            output = tamper(
                slot, engine.submit(slot, position, payload, "last", max(1, record.top_k)).result()
            )
            data, outputs = output.packed(dtype)
            steps.append(
                AuditStep(len(steps), position, rows, outputs, packed, data, issued=int(time.time()))
            )
            at += rows
    return signed(Transcript(record, tuple(steps)), key, domain)


def planted(stored: StoredModel, transcript: Transcript, bounds: Bounds) -> Planted | None:
    """The transcript with a fault, computed as a provider of the stage would."""
    record = transcript.record
    is_tail = record.layer_stop == stored.manifest.layers
    with Engine(
        stored.shard(record.layer_start, record.layer_stop),
        first=record.layer_start == 0,
        last=is_tail,
        n_ctx_total=transcript.tokens,
        max_sessions=1,
        threads=1,
    ) as engine:
        again = behind_others(engine, transcript)
    return plant(transcript, again, bounds, width=stored.manifest.width, is_tail=is_tail)


def behind_others(engine: Engine, transcript: Transcript) -> dict[int, bytes]:
    """What an engine of the stage answers to each row of input when these come in another order, packed."""
    record = transcript.record
    rows = merkle.split_rows(transcript.input, transcript.tokens)
    order = reordered(len(rows))
    data = b"".join(rows[at] for at in order)
    payload = unpack_input(
        data,
        len(rows),
        first=engine.first,
        width=engine.width,
        reads_tokens=engine.reads_tokens,
        dtype=record.wire_dtype,
    )
    slot = engine.open(len(rows))
    answer = engine.submit(slot, 0, payload, "all", max(1, record.top_k)).result()
    engine.close(slot)
    packed, outputs = answer.packed(record.wire_dtype)
    return dict(zip(order, merkle.split_rows(packed, outputs), strict=True))


def signed(transcript: Transcript, key: bytes = KEY, domain: DisputeDomain = DOMAIN) -> Transcript:
    """The same with receipts by `key`."""
    chain = ReceiptChain(transcript.record.stage, domain)
    steps = []
    for step in transcript.steps:
        signature = chain.sign(chain.next(step), coincurve.PrivateKey(key))
        steps.append(replace(step, receipt=signature))
    return Transcript(transcript.record, tuple(steps))
