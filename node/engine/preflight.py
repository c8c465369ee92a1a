"""Whether llama.cpp can load a vocabulary, found out in a process of its own: on some it ends the process.

Imports no llama.cpp here, so that whoever asks can go on without.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

from hypercluster.node.errors import NodeError
from hypercluster.node.shards.store import ModelMissing, StoredModel

SECONDS = 120
PASSED = "vocab.passed"
_REFUSED = 3  # exit code of the child


class VocabularyRefused(NodeError):
    """llama.cpp cannot load the vocabulary, so no client could talk to the model."""


def check_vocabulary_loads(file: Path) -> None:
    """Have llama.cpp load the vocabulary of a GGUF file and tokenize with it. Raises VocabularyRefused."""
    command = [sys.executable, "-m", "hypercluster.node.engine.preflight", str(file)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VocabularyRefused(
            f"llama.cpp did not load the vocabulary of {file} within {SECONDS} s."
        ) from error
    if done.returncode == _REFUSED:
        raise VocabularyRefused(done.stdout.strip())
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1].rstrip(".")
        raise VocabularyRefused(
            f"llama.cpp breaks down on the vocabulary of {file} (exit code {done.returncode}): {last}."
        )


def check_stored_vocabulary(stored: StoredModel) -> None:
    """The same for an opened model, once per vocabulary and version of llama.cpp.

    A model, or a folder of shards, without vocabulary passes. Raises VocabularyRefused, ShardError.
    """
    try:
        file = stored.vocabulary()
    except ModelMissing:
        return
    passed, state = stored.folder / PASSED, f"{stored.manifest.tokenizer} {version('llama-cpp-python')}\n"
    with suppress(OSError, UnicodeDecodeError):
        if passed.read_text() == state:
            return
    check_vocabulary_loads(file)
    with suppress(OSError):  # a folder that is only read is checked every time
        passed.write_text(state)


def _main() -> int:
    from hypercluster.node.engine.llama import LlamaError
    from hypercluster.node.engine.tokenizer import Tokenizer, TokenizerError

    try:
        with Tokenizer(Path(sys.argv[1])) as tokenizer:
            ids = tokenizer.encode("Hello, wörld! 1234\n\t", parse_special=True)
            tokenizer.decode([*ids, *tokenizer.end_ids], special=True)
    except (LlamaError, TokenizerError) as error:
        sys.stdout.write(f"{error}\n")
        return _REFUSED
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
