"""What a verifier's signature is over: its verdict on one transcript, as client and verifier both compute it."""

from __future__ import annotations

import hashlib

from hypercluster.market.trust.receipt import Finding, Verdict, profile_hash
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.rows import rows_root

REWOUND = b"hypercluster-rewound-v1:"


def verdict_on(
    transcript: Transcript,
    *,
    finding: Finding,
    tolerance: int,
    fingerprint_digest: bytes,
    job: bytes,
    issued: int,
    layers: int,
) -> Verdict:
    """The verdict that a verifier signs over a transcript of a model of `layers` layers; `tolerance` in millionths.

    Raises BadProof if the rows have different widths.
    """
    record = transcript.record
    return Verdict(
        model_id=bytes.fromhex(record.model_id),
        layer_start=record.layer_start,
        layer_stop=record.layer_stop,
        wire_dtype=int(record.wire_dtype),
        tail=record.layer_stop == layers,
        profile=profile_hash(record.profile),
        in_root=input_root(transcript),
        out_root=rows_root(transcript.output, transcript.outputs),
        tokens=transcript.tokens,
        outputs=transcript.outputs,
        finding=finding,
        tolerance=tolerance,
        fingerprint=fingerprint_digest,
        job=job,
        issued=issued,
    )


def input_root(transcript: Transcript) -> bytes:
    """The root of all rows of input, 32 bytes; where steps went back, hashed with where each run of them began.

    The same rows at other places give other outputs. Were their roots the same, the chain would take two honest
    verdicts for a contradiction.
    """
    root = rows_root(transcript.input, transcript.tokens)
    runs = transcript.runs
    if len(runs) == 1:
        return root
    places = b"".join(
        run[0].position.to_bytes(4, "big") + sum(step.rows for step in run).to_bytes(4, "big") for run in runs
    )
    return hashlib.sha256(REWOUND + root + places).digest()
