"""Each room has a face: a few names for others, which load what is behind them only when they are used."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOMS = sorted(path.parent.name for path in (Path(__file__).parents[2] / "node").glob("*/__init__.pyi"))
HEAVY = {"llama_cpp", "libp2p", "web3", "numpy", "gguf", "sqlalchemy", "typer", "trio"}


def test_every_room_but_the_command_lines_has_a_face() -> None:
    folder = Path(__file__).parents[2] / "node"
    assert {path.parent.name for path in folder.glob("*/__init__.py")} - set(ROOMS) == {"cli"}


@pytest.mark.parametrize("room", ROOMS)
def test_a_face_says_what_the_room_is_for_and_names_what_is_there(room: str) -> None:
    face = importlib.import_module(f"hypercluster.node.{room}")
    assert face.__doc__
    assert face.__all__
    for name in face.__all__:
        shown = getattr(face, name)
        assert getattr(shown, "__module__", face.__name__).startswith(("hypercluster.", "typing", "types"))
        assert not hasattr(shown, "__path__")


def test_faces_are_loaded_by_need() -> None:
    code = f"""
import importlib, sys
for room in {ROOMS!r}:
    assert dir(importlib.import_module("hypercluster.node." + room))
print(*sorted({HEAVY!r} & sys.modules.keys()))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
