"""Judge models that no test could hold by their headers: are shards of their twins exact, along every boundary?

python -m scripts.twins [NAME ...] prints a line for each of tests/models/headers.py.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from hypercluster.node.engine.exactness import check_exactness
from hypercluster.node.errors import NodeError
from tests.models.headers import HEADERS, write_header


def main(names: list[str]) -> int:
    """Judge these, or all; 1 where one is not exact."""
    failed = 0
    print("| model | layers | paths | shards | seconds | |\n|---|---:|---:|---:|---:|---|")
    for name in names or HEADERS:
        began = time.perf_counter()
        with TemporaryDirectory() as folder:
            try:
                result = check_exactness(write_header(Path(folder) / f"{name}.gguf", name))
            except NodeError as error:
                print(f"| {name} | | | | | {error} |")
                failed = 1
                continue
        shards = sum(len(edges) - 1 for edges in result.paths)
        took = time.perf_counter() - began
        print(
            f"| {name} | {result.layers} | {len(result.paths)} | {shards} | {took:.0f} | exact |", flush=True
        )
    return failed


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
