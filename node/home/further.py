"""The homes of a provider's further shards: below its own, each with a node key and books of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from hypercluster.node.home import keys
from hypercluster.node.home.keys import Key

FOLDER = "shards"
MOST = 64
"""shards of one provider"""


def further_home(home: Path, number: int) -> Path:
    """Where the `number`th shard of a provider has its home; the first one has the provider's own."""
    return home if number == 1 else home / FOLDER / str(number)


def further_homes(home: Path) -> list[Path]:
    """The homes of the second shard, the third, and so on, as far as they have a node key."""
    found = []
    for number in range(2, MOST + 1):
        each = further_home(home, number)
        if not keys.key_file(each, Key.NODE).exists():
            break
        found.append(each)
    return found


def make_further(home: Path, shards: int, password: str) -> list[Path]:
    """Homes for so many shards in all, with node keys and the operator of `home`; those made now.

    Raises KeystoreError, OSError.
    """
    made = []
    for number in range(2 + len(further_homes(home)), shards + 1):
        each = further_home(home, number)
        operator = keys.key_file(each, Key.OPERATOR)
        operator.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.copy2(keys.key_file(home, Key.OPERATOR), operator)
        keys.create(each, Key.NODE, password)  # last: with it the home counts
        made.append(each)
    return made
