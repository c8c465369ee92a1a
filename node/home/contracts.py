"""Whether the contracts are what they should be: looked at before any money moves, and remembered once it is known."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from hypercluster.market.chain import Chain

log = logging.getLogger(__name__)

CHECKED = "checked.json"
"""file in a home: contracts that were found well"""
MOST_REMEMBERED = 16


class WrongContracts(NodeError):
    """The contracts of the deployment are not there, have other code, or do not belong together."""


def check_contracts(chain: Chain, home: Path) -> None:
    """Check code and mutual addresses of the contracts, unless `home` remembers that they were well on this chain.

    Code does not change, and a chain that was reset has another block where they were deployed. Raises WrongContracts,
    ChainError.
    """
    from hypercluster.market.chain.checking import contradictions

    key = _key(chain)
    remembered = _remembered(home)
    if key in remembered:
        return
    wrong = [*contradictions(chain)]
    if wrong:
        raise WrongContracts(
            f"{wrong[0]} Take the deployment file or the profile from somebody you trust; on a local network, that of "
            "the chain which runs now."
        )
    if not chain.deployment.code:
        log.warning(
            "the deployment file says nothing of the contracts' code: they name each other, and that they do what "
            "they should is taken on trust"
        )
    _remember(home, [*remembered, key][-MOST_REMEMBERED:])


def _key(chain: Chain) -> str:
    told = chain.deployment
    places = (told.token, told.registry, told.channels, told.cases, told.proofs, told.demands)
    made_in = chain.block_hash(told.block) or b""
    parts = (str(chain.chain_id), *places, *sorted(told.code.values()), *map(str, told.unit), made_in.hex())
    return hashlib.sha256("/".join(parts).encode()).hexdigest()


def _remembered(home: Path) -> list[str]:
    try:
        told = json.loads((home / CHECKED).read_text())
        return [each for each in told if isinstance(each, str)][:MOST_REMEMBERED]
    except (OSError, ValueError, TypeError, RecursionError):
        return []


def _remember(home: Path, keys: list[str]) -> None:
    try:
        if home.is_dir():
            (home / CHECKED).write_text(json.dumps(keys))
    except OSError as error:
        log.info("that the contracts are well cannot be remembered: %s", error.strerror)
