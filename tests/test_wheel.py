"""What a wheel installs: one import package with everything in it that running needs, and nothing beside it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import zipfile
from pathlib import Path

import httpx
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


def environment(installed: Path, home: Path, path: str) -> dict[str, str]:
    """Of a process that has the wheel and what it depends on, and nothing of the checkout."""
    packages = os.pathsep.join([str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HC_")}
    return clean | {"PYTHONPATH": packages, "PYTHONNOUSERSITE": "1", "HC_HOME": str(home), "PATH": path}


@pytest.mark.slow
def test_hc_up_gives_a_paid_chat_without_make_or_a_checkout(wheel: Path, tmp_path: Path) -> None:
    from hypercluster.node.testnet.anvil import executable

    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
        scripts = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "hc = hypercluster.node.cli.hc:main" in archive.read(scripts).decode()
    # The environment's way to the checkout is closed, for the processes that it starts as well.
    (installed / "sitecustomize.py").write_text(
        "import sys\nsys.path[:] = [each for each in sys.path if not each.startswith('__editable__')]\n"
        "sys.meta_path[:] = [each for each in sys.meta_path if 'editable' not in repr(each).lower()]\n"
    )
    command = [sys.executable, "-m", "hypercluster.node.cli.hc", "up", "--model", "verse", "--json"]
    bare = environment(installed, tmp_path / "bare", str(tmp_path))
    lacking = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert lacking.returncode == 1
    assert "npm install -g @foundry-rs/anvil" in lacking.stderr
    assert "Traceback" not in lacking.stderr

    # As `npm install -g` leaves it: a launcher on PATH, which must not be used, and the program beside it.
    package = tmp_path / "npm" / "lib" / "node_modules" / "@foundry-rs"
    tools = tmp_path / "npm" / "bin"
    for folder in (tools, package / "anvil", package / "anvil-here" / "bin"):
        folder.mkdir(parents=True)
    (package / "anvil" / "bin.mjs").touch(0o755)
    (package / "anvil-here" / "bin" / "anvil").symlink_to(executable())
    (tools / "anvil").symlink_to(package / "anvil" / "bin.mjs")
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(installed, tmp_path / "home", str(tools)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as up:
        try:
            assert up.stdout is not None
            printed = ""
            while not printed.rstrip().endswith("}"):
                line = up.stdout.readline()
                assert line, up.stderr.read() if up.stderr else ""
                printed += line
            door = json.loads(printed)
            answer = httpx.post(
                f"{door['base_url']}/completions",
                json={"model": "verse", "prompt": "ROMEO:", "max_tokens": 4},
                headers={"Authorization": f"Bearer {door['key']}"},
                timeout=600,
                trust_env=False,
            )
            assert answer.status_code == 200, answer.text
            assert int(answer.json()["usage"]["cost_wei"]) > 0
            page = httpx.get(door["link"], follow_redirects=True, trust_env=False)
            assert "HyperCluster" in page.text
            up.send_signal(signal.SIGINT)
            deadline = time.monotonic() + 300
            while up.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            assert up.returncode == 0, up.stderr.read() if up.stderr else ""
        finally:
            up.kill()
