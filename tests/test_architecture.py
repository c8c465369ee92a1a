"""The house as docs/architecture.md draws it: its tables are the folders, modules are small, the protocol is light."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 350
MEDIAN_LINES = 130
PRODUCT = ("contracts", "market", "migrations", "node", "scripts")


def modules() -> Iterator[Path]:
    """Our own modules that run, the generated one aside."""
    for top in PRODUCT:
        for path in (ROOT / top).rglob("*.py"):
            if "node_modules" not in path.parts and path.name != "wire_pb2.py":
                yield path


def lines(path: Path) -> int:
    return len(path.read_text().splitlines())


def table(heading: str) -> list[str]:
    """The names in the first column of the table below a heading, without their closing slash."""
    text = (ROOT / "docs/architecture.md").read_text()
    _, _, section = text.partition(f"\n### {heading}\n")
    section = re.split(r"^#+ ", section, maxsplit=1, flags=re.M)[0]
    return re.findall(r"^\| `([\w]+)/?` \|", section, flags=re.M)


def rooms(top: str) -> set[str]:
    """Packages and modules that stand at the top of a folder."""
    folder = ROOT / top
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    return packages | {path.stem for path in folder.glob("*.py")} - {"__init__"}


@pytest.mark.parametrize("top", ["market", "node"])
def test_the_table_of_rooms_is_the_folder_list(top: str) -> None:
    listed = table(top)
    assert sorted(listed) == sorted(rooms(top))


def test_the_top_of_node_has_at_most_six_modules() -> None:
    assert len(list((ROOT / "node").glob("*.py"))) <= 6


def test_tests_stand_in_the_rooms_that_they_test() -> None:
    for top in ("market", "node"):
        folders = {path.name for path in (ROOT / "tests" / top).iterdir() if list(path.glob("test_*.py"))}
        assert folders <= rooms(top)


@pytest.mark.parametrize("room", ["wire", "evidence"])
def test_who_speaks_the_protocol_loads_no_llama_cpp_no_libp2p_no_web3(room: str) -> None:
    code = f"""
import importlib, pkgutil, sys
import hypercluster.node.{room} as room
for module in pkgutil.walk_packages(room.__path__, room.__name__ + "."):
    importlib.import_module(module.name)
print(*sorted({{"llama_cpp", "libp2p", "web3", "gguf", "typer", "sqlalchemy"}} & sys.modules.keys()))
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_no_module_is_long_and_most_are_short() -> None:
    counts = {str(path.relative_to(ROOT)): lines(path) for path in modules()}
    assert {name: count for name, count in counts.items() if count > MOST_LINES} == {}
    assert median(counts.values()) < MEDIAN_LINES
