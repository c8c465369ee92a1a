"""Judges one type of weights: are shards of a tiny model exact whose layers hold it?

python -m tests.models.quantised TYPE
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES
from gguf.constants import GGMLQuantizationType as Type

from hypercluster.node.shards.model import MATRIX_TYPES
from tests.models.cases import Case
from tests.models.judging import exact, write_case

WIDE = {"feed_forward_length": 512, "expert_feed_forward_length": 512}  # whole blocks of every type
TYPES = {kind.name: kind for kind in sorted(MATRIX_TYPES)}
CASE = Case("qwen3moe", changes=WIDE)


def main() -> None:
    kind = TYPES[sys.argv[1]]

    def type_of(name: str, shape: tuple[int, ...]) -> Type:
        whole = shape[0] % GGML_QUANT_SIZES[kind][0] == 0
        return kind if whole and name.startswith("blk.") else Type.F32

    with tempfile.TemporaryDirectory() as folder:
        source = write_case(Path(folder) / "model.gguf", CASE, type_of)
        sys.stdout.write(json.dumps(exact(source)) + "\n")


if __name__ == "__main__":
    main()
