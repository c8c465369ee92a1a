"""What a wheel installs: one import package with everything in it that running needs, and nothing beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("contracts", "market", "migrations", "node")
LEFT_OUT = shutil.ignore_patterns("node_modules", "__pycache__", ".solc", "*.egg-info")
LOOK = """
import importlib, pathlib, pkgutil, sys
import hypercluster
installed = pathlib.Path(sys.argv[1])
assert all(pathlib.Path(path).is_relative_to(installed) for path in hypercluster.__path__), hypercluster.__path__
for module in pkgutil.walk_packages(hypercluster.__path__, "hypercluster."):
    if "__main__" not in module.name and not module.name.startswith("hypercluster.migrations."):
        assert pathlib.Path(importlib.import_module(module.name).__file__).is_relative_to(installed)
from hypercluster.contracts import artifact
from hypercluster.market.ledger import Ledger
from hypercluster.node.shards.store import demo_model
assert artifact("PaymentChannels").bytecode.startswith("0x")
Ledger(f"sqlite:///{installed.parent / 'ledger.db'}").close()
assert demo_model().read_bytes()[:4] == b"GGUF"
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built by the build system that pyproject.toml names."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, source / folder, ignore=LEFT_OUT)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"
    # setuptools wants a newer `packaging` than eth-ape lets in, and brings it along.
    brought = str(Path(sysconfig.get_path("purelib")) / "setuptools" / "_vendor")
    built = subprocess.run(
        [sys.executable, "-c", build, str(out)],
        cwd=source,
        env=os.environ | {"PYTHONPATH": brought},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (made,) = out.glob("*.whl")
    return made


def test_the_only_top_level_is_hypercluster(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"hypercluster"}


def test_every_module_and_data_file_is_in_it(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *FOLDERS], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    data = (".py", ".pyi", ".proto", ".typed", ".mako", ".gguf")
    wanted = {f"hypercluster/{name}" for name in tracked if name.endswith(data)}
    whole = ("contracts/artifacts/", "node/web/pages/", "node/web/vendor/")
    wanted |= {f"hypercluster/{name}" for name in tracked if name.startswith(whole)}
    with zipfile.ZipFile(wheel) as archive:
        assert wanted - set(archive.namelist()) == set()


def test_it_runs_from_a_folder_of_its_own(wheel: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    # -S leaves out the .pth files of the environment, and with them the checkout.
    packages = os.pathsep.join([str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    looked = subprocess.run(
        [sys.executable, "-S", "-c", LOOK, str(installed)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": packages},
        capture_output=True,
        text=True,
    )
    assert looked.returncode == 0, looked.stderr
