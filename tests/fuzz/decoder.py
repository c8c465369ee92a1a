"""One decoder of what others wrote, and what has to be true of it whatever it is given."""

from __future__ import annotations

import atexit
import logging
import re
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from hypercluster.market.errors import MarketError
from hypercluster.node.errors import NodeError
from tests.fuzz.mutation import Shape

CORPUS = Path(__file__).parent / "corpus"
MOST_SECONDS = 10
"""for one input; what takes longer hangs"""
MOST_MEMORY = 512 * 2**20
"""bytes that one input may add to the most that the process ever had"""
_VARYING = re.compile(r"[0-9a-f]{6,}|\d+|'[^']*'|\"[^\"]*\"|\S{30,}")


@dataclass(frozen=True, slots=True)
class Decoder:
    """What reads bytes of others.

    Attributes:
        covers: the functions whose reading this is, as "module:Class.function" of the package, for test_table.py.
        decode: takes bytes and gives a value or raises one of `errors`, soon and in bounded memory.
        errors: beside the two roots of our own errors.
    """

    name: str
    decode: Callable[[bytes], object]
    covers: tuple[str, ...]
    shape: Shape = Shape.BYTES
    errors: tuple[type[Exception], ...] = ()

    @property
    def folder(self) -> Path:
        """Its part of the corpus."""
        return CORPUS / self.name

    def seeds(self) -> list[bytes]:
        """The corpus, in the order of the names."""
        return [path.read_bytes() for path in sorted(self.folder.iterdir())]


class _TooSlow(BaseException):
    """The time of one input is over."""


@dataclass(frozen=True, slots=True)
class Crash:
    """An input that a decoder did not take as it should, and what happened."""

    decoder: str
    data: bytes
    what: str

    @property
    def kind(self) -> str:
        """What happened without what differs from input to input."""
        return _VARYING.sub(".", self.what.strip().splitlines()[-1][:200])

    def __str__(self) -> str:
        shown = self.data if len(self.data) <= 2000 else self.data[:2000] + b"..."
        return f"{self.decoder}: {self.what}\nfor {len(self.data)} bytes: {shown!r}"


def attempt(decoder: Decoder, data: bytes) -> Crash | str:
    """Give a decoder an input: what came of it in a few words, the same for the same, or a Crash."""
    before = _peak()
    expected: tuple[type[Exception], ...] = (NodeError, MarketError, *decoder.errors)
    try:
        with _time_limit():
            decoder.decode(data)
        outcome = "a value"
    except expected as error:
        outcome = f"{type(error).__name__}: {_VARYING.sub('.', str(error)[:200])}"
    except _TooSlow:
        return Crash(decoder.name, data, f"it takes more than {MOST_SECONDS} s\n{_where()}")
    except Exception:  # noqa: BLE001 - whatever else it raises is what is looked for
        return Crash(decoder.name, data, _where())
    grown = _peak() - before
    if grown > MOST_MEMORY:
        return Crash(decoder.name, data, f"it takes {grown >> 20} MiB")
    return outcome


def _where() -> str:
    return "".join(traceback.format_exc(limit=-6))[-3000:]


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def _time_limit() -> Iterator[None]:
    """Of processor time: a machine that has other work is no fault of a decoder's."""

    def over(_signal: int, _frame: FrameType | None) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGPROF, over)
    signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def silence() -> Iterator[None]:
    """No log lines meanwhile: what is refused is logged, and here nearly all is."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


_folder: Path | None = None


def scratch() -> Path:
    """A folder of this process for files, which goes at its end."""
    global _folder
    if _folder is None:
        memory = Path("/dev/shm")
        _folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory if memory.is_dir() else None))
        atexit.register(shutil.rmtree, _folder, True)
    return _folder


def from_file(read: Callable[[Path], object], name: str = "input") -> Callable[[bytes], object]:
    """A decoder of a file, given its path."""

    def decode(data: bytes) -> object:
        path = scratch() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(0o600)
        return read(path)

    return decode


def from_home(read: Callable[[Path], object], name: str) -> Callable[[bytes], object]:
    """A decoder of a file in a home, given the home."""
    return from_file(lambda path: read(path.parent), f"home/{name}")


def from_text(read: Callable[[str], object]) -> Callable[[bytes], object]:
    """A decoder of text; bytes that are none are read as latin-1, since somebody has made a text of them before."""

    def decode(data: bytes) -> object:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode("latin-1")
        return read(text)

    return decode
