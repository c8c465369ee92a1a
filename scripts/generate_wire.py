"""Generate node/wire/wire_pb2.py and node/wire/wire_pb2.pyi from node/wire/wire.proto.

    python scripts/generate_wire.py            # write them
    python scripts/generate_wire.py --check    # exit 1 when they are not what wire.proto gives

Run it after a change to the .proto file and commit what it writes; a test compares.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
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


def stale() -> list[str]:
    """The generated modules that are missing or differ from what wire.proto gives."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        return [
            name
            for name in OUTPUTS
            if not (ROOT / name).is_file() or (ROOT / name).read_bytes() != (Path(folder) / name).read_bytes()
        ]


def main() -> int:
    """Write or check the modules."""
    parser = argparse.ArgumentParser(description="Generate the wire modules from wire.proto.")
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed files, write nothing"
    )
    if parser.parse_args().check:
        for name in (old := stale()):
            print(f"{name} is not what wire.proto gives: run scripts/generate_wire.py.", file=sys.stderr)
        return 1 if old else 0
    for path in generate(ROOT):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
