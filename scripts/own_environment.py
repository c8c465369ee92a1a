"""Tools that are installed into an environment of their own, because they want other versions than the project."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path


def program(name: str, package: str, kept: Path) -> Path:
    """The program of a pinned package in the environment in `kept`, which is made when there is none."""
    stamp = kept / "installed"
    if not stamp.exists() or stamp.read_text() != package:
        venv.create(kept / "venv", with_pip=True)
        pip = [str(kept / "venv" / "bin" / "pip"), "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, package], check=True)
        stamp.write_text(package)
    return kept / "venv" / "bin" / name
