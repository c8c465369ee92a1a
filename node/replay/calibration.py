"""How far apart honest computations of one model are, and the bounds for audits that follow from it.

The model writes a few texts of its own. What a provider would have answered is computed in every honest way that
this machine knows, and compared with what an auditor here would find: by one prefill, and by the same steps again.
Other machines can record their answers to the same texts (recordings.py), which then count as honest as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hypercluster.market.trust.audit import (
    Bounds,
    Candidates,
    Difference,
    Kind,
    Thresholds,
    Tier,
    compare_candidates,
    compare_rows,
)
from hypercluster.node.replay.measuring import (
    PROMPT,
    TEXTS,
    TOKENS,
    Answers,
    Bench,
    Progress,
    audit,
    serve,
    write_texts,
)
from hypercluster.node.replay.recordings import read_recording
from hypercluster.node.replay.variations import variations
from hypercluster.node.rows import TopK
from hypercluster.node.shards.store import StoredModel


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
    """Measure and return the bounds of a model; `progress` is told of `steps(...)` pieces of work in all.

    Args:
        threads: that audits will use here.
        texts, tokens: how many texts of how many tokens; longer ones show more of how errors grow.
        recordings: files that `record` wrote on other machines.

    Raises:
        ModelMissing, ShardError, LlamaError: the whole model is not here or does not load.
        BadRecording: a file cannot be used.
    """
    # First, as the rest takes minutes.
    recorded = [read_recording(path, stored) for path in recordings]
    bench = Bench(stored, threads)
    tokens = min(tokens, stored.manifest.context)
    written = write_texts(bench, texts, tokens, seed, progress)
    own = audit(bench, written, progress)
    measured: list[dict[str, Any]] = []
    honest: dict[Kind, dict[Tier, list[Difference]]] = {
        kind: {"prefill": [], "replay": [], "foreign": []} for kind in ("body", "tail")
    }

    def note(name: str, tiers: Sequence[tuple[Tier, Answers]], claimed: Answers, f16: bool = False) -> None:
        for tier, mine in tiers:
            for kind in ("body", "tail"):
                found = _differences(kind, claimed, mine, f16)
                honest[kind][tier] += found
                worst = max(found, key=lambda difference: difference.maximum)
                measured.append({"variation": name, "kind": kind, "comparison": tier, **asdict(worst)})

    for variation in variations(threads):
        served = serve(bench, variation, written, progress)
        if served is None:
            continue
        tiers: list[tuple[Tier, Answers]] = [("foreign", own.prefill)]
        if variation.is_own(bench.profile):
            tiers += [("prefill", own.prefill), ("replay", own.replay)]
        note(variation.name, tiers, served, variation.f16)
    for there, name, texts_there in recorded:
        note(name, [("foreign", audit(bench, texts_there).prefill)], there)
        progress(2 * texts)
    limits: dict[Kind, dict[Tier, Thresholds]] = {
        kind: {tier: Thresholds.around(found, tier) for tier, found in tiers.items()}
        for kind, tiers in honest.items()
    }
    return Bounds(stored.manifest.model_id, limits, tuple(measured))


def steps(threads: int, recordings: int = 0, texts: int = TEXTS) -> int:
    """Pieces of work in `calibrate`: texts that go through one engine each."""
    return texts * (1 + 2 * (1 + len(variations(threads)) + recordings))


def _differences(kind: Kind, claimed: Answers, own: Answers, f16: bool) -> list[Difference]:
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
