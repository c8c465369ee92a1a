"""Operators whom a client trusts by name: their stages are not looked over."""

from __future__ import annotations

import re
from pathlib import Path

from hypercluster.node.errors import NodeError

MOST_BYTES = 1 << 20
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}", re.ASCII)


class BadTrust(NodeError):
    """A file of trusted operators cannot be used."""


def read_trusted(file: Path) -> frozenset[str]:
    """The operators named in a file, as lower-case addresses: one on each line, what follows # aside.

    Raises BadTrust where it cannot be read, names nobody, or a line is no address.
    """
    try:
        with file.expanduser().open("rb") as opened:
            raw = opened.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise BadTrust(f"{file} is too long for a list of operators: {MOST_BYTES} bytes are the most.")
        lines = raw.decode("utf-8-sig").splitlines()
    except RuntimeError:
        raise BadTrust(f"{file} begins with the home of nobody here: give a whole path.") from None
    except OSError as error:
        raise BadTrust(f"{file} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError:
        raise BadTrust(f"{file} is no text in UTF-8.") from None
    found = set()
    for number, line in enumerate(lines, start=1):
        named = line.partition("#")[0].strip()
        if named and not _ADDRESS.fullmatch(named):
            raise BadTrust(
                f"Line {number} of {file} is no address of an operator: it is 0x and 40 hexadecimal digits."
            )
        if named:
            found.add(named.lower())
    if not found:
        raise BadTrust(f"{file} names no operator: write one address on each line.")
    return frozenset(found)
