"""Answers of this machine in a file, which count as honest where another machine calibrates."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hypercluster.node.errors import NodeError
from hypercluster.node.replay.measuring import TEXTS, TOKENS, Answers, Bench, serve, write_texts
from hypercluster.node.replay.variations import Variation
from hypercluster.node.rows import TopK
from hypercluster.node.shards.store import StoredModel

MOST_BYTES = 2**30
"""of a recording when it is unpacked"""


class BadRecording(NodeError):
    """A file of recorded answers that is malformed or of another model."""


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
    bench = Bench(stored, threads)
    written = write_texts(bench, texts, min(tokens, stored.manifest.context), seed)
    served = serve(bench, Variation("recorded", threads=threads), written)
    assert served is not None
    arrays: dict[str, npt.NDArray[Any]] = {
        "model_id": np.array(stored.manifest.model_id),
        "profile": np.array(bench.profile),
        "texts": np.array(written),
        "body": np.array(served.body),
    }
    for name in ("ids", "logits", "logsumexp"):
        arrays[name] = np.array([getattr(topk, name) for topk in served.tail])
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_recording(path: Path, stored: StoredModel) -> tuple[Answers, str, list[list[int]]]:
    """Answers of another machine, what to call them, and the texts. Raises BadRecording."""
    if path.exists() and not path.is_file():
        raise BadRecording(
            f"{path} is no recording: it is no regular file."
        )  # zipfile reads a device for ever
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(each.file_size for each in archive.infolist()) > MOST_BYTES:
                raise BadRecording(f"{path} unpacks to more than {MOST_BYTES} bytes: it is no recording.")
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
    except BadRecording:
        raise
    except Exception as error:  # noqa: BLE001 - a strange archive makes numpy and zlib raise whatever they like
        raise BadRecording(f"{path} is no recording: {error}.") from None
