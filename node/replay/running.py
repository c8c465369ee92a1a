"""The inputs of a transcript on an engine again: as one prefill, or step by step as they were served."""

from __future__ import annotations

import numpy as np

from hypercluster.node.engine.engine import Engine
from hypercluster.node.engine.steps import Outputs, StepOutput
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.replay.comparing import WIDER, BadEvidence, put_out
from hypercluster.node.rows import Float32s, Payload, TopK, join, unpack_input


def inputs_of(transcript: Transcript, engine: Engine) -> list[Payload]:
    """The input of each step. Raises BadEvidence, WireError."""
    dtype, held, inputs = transcript.record.wire_dtype, 0, []
    for step in transcript.steps:
        if step.position > held:
            raise BadEvidence(f"Step {step.seq} starts at {step.position}, the stage stands at {held}.")
        inputs.append(
            unpack_input(
                step.input,
                step.rows,
                first=engine.first,
                width=engine.width,
                reads_tokens=engine.reads_tokens,
                dtype=dtype,
            )
        )
        held = step.position + step.rows
    if not inputs:
        raise BadEvidence("There is no step to run again.")
    return inputs


def prefill(engine: Engine, transcript: Transcript, inputs: list[Payload]) -> Float32s | TopK:
    """All inputs in one go, or in one for each time that the steps went back; of the results what was put out."""
    slot, at = engine.open(transcript.length), 0
    found: list[StepOutput] = []
    try:
        for run in transcript.runs:
            payload: Payload = np.concatenate(inputs[at : at + len(run)])
            at += len(run)
            step = engine.submit(slot, run[0].position, payload, "all", _width(transcript, engine))
            found.append(step.result())
    finally:
        engine.close(slot)
    outputs = _joined(found)
    return put_out(outputs, transcript.steps) if isinstance(outputs, TopK) else outputs


def replay(engine: Engine, transcript: Transcript, inputs: list[Payload]) -> Float32s | TopK:
    """The same steps again, one after the other."""
    slot = engine.open(transcript.length)
    found: list[StepOutput] = []
    try:
        for step, payload in zip(transcript.steps, inputs, strict=True):
            outputs: Outputs = "all" if step.outputs == step.rows else "last"
            again = engine.submit(slot, step.position, payload, outputs, _width(transcript, engine))
            found.append(again.result())
    finally:
        engine.close(slot)
    return _joined(found)


def _joined(found: list[StepOutput]) -> Float32s | TopK:
    candidates = [output.topk for output in found if output.topk is not None]
    if candidates:
        return join(candidates)
    return np.concatenate([output.activations for output in found if output.activations is not None])


def _width(transcript: Transcript, engine: Engine) -> int:
    return min(engine.n_vocab, WIDER * max(1, transcript.record.top_k))
