"""Set the project up in .venv and contracts/node_modules, showing progress; a second call costs nothing.

Runs on the system's Python 3.11+ with the standard library alone. Needs a C/C++ compiler (llama.cpp is built
for this machine's processor) and Node.js (Anvil, solc and OpenZeppelin come as npm packages).

    python3 scripts/setup.py          what running needs
    python3 scripts/setup.py --dev    what the tests need as well

CMAKE_ARGS goes to llama.cpp's build, such as -DGGML_CUDA=on; with another value it is built again, and without one it
stays as it is.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
CHECKOUT = VENV / "checkout" / "hypercluster"
FOLDERS = ("contracts", "market", "migrations", "node")
LLAMA = "llama-cpp-python"
DEBIAN = {
    "chromium": "usr/bin/chromium",
    "postgresql": "usr/lib/postgresql/*/bin/initdb",
    "fonts-dejavu-core": "usr/share/fonts/truetype/dejavu",
}
"""packages that the tests need, by a file that says they are there"""

Progress = Callable[[str], tuple[int, int] | None]


class SetupError(Exception):
    """A step failed; the message says which and what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dev", action="store_true", help="install what the tests need as well")
    arguments = parser.parse_args()
    try:
        check_machine()
        install_python(ROOT / ("requirements-dev.lock" if arguments.dev else "requirements.lock"))
        install_node(dev=arguments.dev)
        if arguments.dev:
            install_debian()
    except SetupError as error:
        print(f"set-up failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def check_machine() -> None:
    """Name what is missing before anything long begins."""
    if not (3, 11) <= sys.version_info < (3, 14):
        raise SetupError(
            f"Python 3.11 to 3.13 is needed, this is {sys.version.split()[0]}; try PYTHON=python3.12 make"
        )
    if not (VENV / "ready").exists():
        for tools, what in (
            (("cc", "gcc", "clang"), "a C compiler"),
            (("c++", "g++", "clang++"), "a C++ compiler"),
        ):
            if not any(map(shutil.which, tools)):
                raise SetupError(f"{what} is needed to build llama.cpp (Debian: apt install build-essential)")
    if not shutil.which("npm"):
        raise SetupError("Node.js with npm is needed for Anvil and solc (Debian: apt install nodejs npm)")


def install_python(lock: Path) -> None:
    """Install a lock file into .venv with `--no-deps`: the lock is complete, and no resolver runs."""
    stamp = VENV / "ready"
    text = lock.read_text()
    built = VENV / "llama-built"
    before = built.read_text() if built.exists() else ""
    wanted = os.environ.get("CMAKE_ARGS", before)
    digest = hashlib.sha256((text + settings() + wanted).encode()).hexdigest()
    if stamp.exists() and digest in stamp.read_text().split():
        return
    if not (BIN / "python").exists():
        venv.create(VENV, with_pip=True)
    pip = [str(BIN / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--no-deps"]
    blocks = re.findall(r"^[a-z0-9][^\n]*(?:\n    [^\n]*)*", text, flags=re.M)
    llama = [block for block in blocks if block.startswith(LLAMA + "==")]
    others = [block for block in blocks if block not in llama]
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (("others", others), ("llama", llama)):
            (Path(folder) / name).write_text("\n".join(part) + "\n")
        run(
            "Python packages",
            [*pip, "--require-hashes", "-r", f"{folder}/others"],
            progress=counted(r"^Collecting ", len(others)),
        )
        installed = subprocess.run(
            [BIN / "python", "-m", "pip", "list", "--format=freeze"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        if llama and (llama[0].split()[0] not in installed or before != wanted):
            again = ["--force-reinstall", "--no-cache-dir"] if before != wanted else []
            run(
                "llama.cpp, built for this machine (some minutes)",
                [*pip, "-v", *again, "--require-hashes", "-r", f"{folder}/llama"],
                progress=ninja_steps,
                # The multimodal library is not used; leaving it out shortens the build.
                environment={"CMAKE_ARGS": f"-DLLAVA_BUILD=OFF {wanted}".strip()},
            )
            built.write_text(wanted)
    run("HyperCluster itself", [*pip, "-e", str(ROOT)], progress=lambda line: None)
    link_checkout()
    # The full set holds the smaller one, so either stamp stays valid after `--dev`.
    done = stamp.read_text().split() if stamp.exists() and lock.name == "requirements.lock" else []
    if lock.name == "requirements-dev.lock":
        runtime = (ROOT / "requirements.lock").read_text() + settings() + wanted
        done.append(hashlib.sha256(runtime.encode()).hexdigest())
    stamp.write_text("\n".join([*done, digest]) + "\n")


def settings() -> str:
    """What decides how HyperCluster itself is installed."""
    return (ROOT / "pyproject.toml").read_text() + (ROOT / "setup.py").read_text()


def link_checkout() -> None:
    """The folders as the package `hypercluster`, for tools such as mypy that read files and run no import hooks."""
    CHECKOUT.mkdir(parents=True, exist_ok=True)
    for folder in FOLDERS:
        link = CHECKOUT / folder
        if not link.exists():
            link.symlink_to(ROOT / folder, target_is_directory=True)


def install_node(*, dev: bool) -> None:
    """`npm ci` in contracts/: exactly what package-lock.json names, and Forge for the tests alone."""
    lock = ROOT / "contracts" / "package-lock.json"
    stamp = ROOT / "contracts" / "node_modules" / ".ready"
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    enough = (f"{digest} dev",) if dev else (f"{digest} dev", digest)
    if stamp.exists() and stamp.read_text() in enough:
        return
    run(
        "Anvil, Forge, solc and OpenZeppelin" if dev else "Anvil, solc and OpenZeppelin",
        [
            "npm",
            "ci",
            "--no-audit",
            "--no-fund",
            *([] if dev else ["--omit=dev"]),
            "--prefix",
            str(lock.parent),
        ],
        progress=lambda line: None,
    )
    stamp.write_text(enough[0])


def install_debian() -> None:
    """What the tests run beside us, from Debian's packages; elsewhere, or without the right to, say what is missing."""
    missing = [package for package, found in DEBIAN.items() if not any(Path("/").glob(found))]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid():
        print(f"not installed, and the tests that need them are skipped: {', '.join(missing)}")
        return
    run("Debian's lists of packages", ["apt-get", "update"], progress=lambda line: None)
    run(
        "Debian's " + " and ".join(missing),
        ["apt-get", "install", "--yes", "--no-install-recommends", *missing],
        progress=lambda line: None,
        environment={"DEBIAN_FRONTEND": "noninteractive"},
    )


def counted(pattern: str, total: int) -> Progress:
    """Progress by counting the lines that match."""
    seen = 0

    def step(line: str) -> tuple[int, int] | None:
        nonlocal seen
        if re.match(pattern, line):
            seen += 1
            return seen, total
        return None

    return step


def ninja_steps(line: str) -> tuple[int, int] | None:
    """Ninja prints `[12/140] command`."""
    match = re.match(r"\s*\[(\d+)/(\d+)\]", line)
    return (int(match[1]), int(match[2])) if match else None


def run(
    title: str, command: list[str], *, progress: Progress, environment: dict[str, str] | None = None
) -> None:
    """Run one step with a progress line; on failure show the end of its output."""
    start, last = time.monotonic(), 0.0
    tail: list[str] = []
    live = sys.stdout.isatty()
    print(f"{title} ..." if not live else f"{title}", end="\n" if not live else "", flush=True)
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **(environment or {})},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            tail = [*tail[-24:], line.rstrip()[:300]]
            state = progress(line)
            now = time.monotonic()
            if state and (live or now - last > 20):
                last = now
                done, total = state
                bar = "#" * (24 * done // max(total, 1))
                text = f"{title} [{bar:<24}] {done}/{total} {now - start:4.0f} s"
                print(f"\r{text}" if live else f"  {text}", end="" if live else "\n", flush=True)
        if process.wait() != 0:
            print()
            raise SetupError(
                f"{title}: `{command[0]} ...` ended with {process.returncode}:\n  " + "\n  ".join(tail)
            )
    start_of_line, blank = ("\r", " " * 40) if live else ("", "")
    print(f"{start_of_line}{title}: done in {time.monotonic() - start:.0f} s{blank}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
