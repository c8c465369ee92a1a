"""Generate node/wire/wire_pb2.py and node/wire/wire_pb2.pyi from node/wire/wire.proto.

    python scripts/generate_wire.py

Run it after a change to the .proto file and commit what it writes; a test compares.
"""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
OUTPUTS = ("node/wire/wire_pb2.py", "node/wire/wire_pb2.pyi")


def generate(destination: Path) -> list[Path]:
    """Write the generated modules under `destination`, in the same folders as in the repository."""
    (destination / "node/wire").mkdir(parents=True, exist_ok=True)
    status = protoc.main(
        [
            "protoc",
            f"-I{ROOT}",
            f"-I{files('grpc_tools') / '_proto'}",
            f"--python_out={destination}",
            f"--pyi_out={destination}",
            str(ROOT / "node/wire/wire.proto"),
        ]
    )
    if status != 0:
        raise SystemExit(f"protoc failed with status {status}.")
    stub = destination / OUTPUTS[1]
    stub.write_text("# mypy: ignore-errors\n" + stub.read_text())
    return [destination / name for name in OUTPUTS]


if __name__ == "__main__":
    for path in generate(ROOT if len(sys.argv) < 2 else Path(sys.argv[1])):
        print(path)
