"""Imports go one way, and each library that matters has one door (docs/architecture.md)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FLOORS = (
    "cli",
    "testnet",
    "gateway",
    "traffic",
    "client provider verifier",
    "replay serving web pulling",
    "network",
    "evidence",
    "engine wire",
    "shards home identity rows",
    "catalogue",
    "threads errors",
)
"""Rooms of node/ from the roof down: each may import what stands below it, never its own floor or above."""
DOORS = {
    "llama_cpp": ["node/engine/"],
    "libp2p": ["node/network/", "node/identity.py"],
    "apscheduler": ["node/serving/jobs.py"],
    "gguf": [
        "node/shards/",
        "node/engine/llama.py",
        "node/engine/quantising.py",
        "node/engine/tiny.py",
        "node/engine/twin_running.py",
        "node/testnet/cheats.py",
    ],
    "minijinja": ["node/engine/jinja.py"],
    "llguidance": ["node/engine/"],
    "hypercorn": ["node/web/"],
    "starlette": ["node/web/", "node/gateway/", "node/provider/http.py", "node/verifier/http.py"],
    "prometheus_client": [
        "node/web/",
        "node/gateway/",
        "node/provider/metrics.py",
        "node/verifier/metrics.py",
    ],
    "typer": ["node/cli/"],
    "rich": ["node/cli/"],
    "web3": ["market/chain/"],
    "sqlalchemy": ["market/ledger/", "migrations/"],
}
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
SOURCES = [
    path for top in ("contracts", "market", "migrations", "node") for path in (ROOT / top).rglob("*.py")
]


def imported(path: Path) -> Iterator[str]:
    """Dotted names of what a module imports, `from a import b` as a.b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way_and_through_the_doors(path: Path) -> None:
    name = path.relative_to(ROOT)
    top, room = name.parts[0], name.with_suffix("").parts[1]
    for module in imported(path):
        first, *rest = module.split(".")
        doors = DOORS.get(first)
        assert doors is None or str(name).startswith(tuple(doors)), f"{first} is for {doors}"
        assert first not in ("node", "market", "contracts", "migrations"), (
            f"{module} is hypercluster.{module}"
        )
        if first != "hypercluster":
            continue
        assert rest[0] == top or (top, rest[0]) in {
            ("node", "market"), ("node", "contracts"), ("market", "contracts"), ("market", "migrations"),
            ("migrations", "market"),
        }, f"{top}/ may not import {module}"  # fmt: skip
        if top == rest[0] == "node" and room != "__init__" and rest[1] != room:
            assert FLOOR[rest[1]] > FLOOR[room], f"{room}/ may not import {module}"


def test_every_room_is_on_a_floor() -> None:
    rooms = {path.name for path in (ROOT / "node").iterdir() if (path / "__init__.py").is_file()}
    modules = {path.stem for path in (ROOT / "node").glob("*.py")} - {"__init__"}
    assert rooms | modules <= FLOOR.keys()
    assert len(modules) <= 5
