"""What a home remembers of the network between two commands: peers to dial, and adverts that still hold.

Nothing in the file is believed: adverts are checked again as if a stranger had sent them, and a peer proves
its id when it is dialled.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hypercluster.node.errors import HostError, NodeError
from hypercluster.node.network.addresses import joined_through
from hypercluster.node.wire.messages import SignedAdvert

log = logging.getLogger(__name__)

MOST_PEERS = 64
MOST_ADVERTS = 256
"""of one model"""
_MOST_MODELS = 16
_MOST_BYTES = 16 * 2**20


class Memory:
    """The file `file`; what cannot be read counts as forgotten, what cannot be written is given up."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._peers: dict[str, tuple[str, ...]] = {}
        self._adverts: dict[str, list[SignedAdvert]] = {}
        try:
            if file.stat().st_size <= _MOST_BYTES:
                self._read(json.loads(file.read_text()))
        except FileNotFoundError:
            pass
        except (NodeError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.info("the peers remembered in %s cannot be read: %s", file, error)

    @property
    def peers(self) -> dict[str, tuple[str, ...]]:
        """Multiaddrs by peer id, the one met last first."""
        return dict(self._peers)

    def adverts(self, model_id: str) -> list[SignedAdvert]:
        """The adverts kept for a model, unchecked."""
        return list(self._adverts.get(model_id, []))

    def keep(
        self, model_id: str, adverts: Sequence[SignedAdvert], peers: Mapping[str, Sequence[str]]
    ) -> None:
        """Write what is known now; peers that are not among them are kept behind them."""
        met = {peer: tuple(addrs) for peer, addrs in peers.items() if addrs}
        self._peers = dict(
            [*met.items(), *((p, a) for p, a in self._peers.items() if p not in met)][:MOST_PEERS]
        )
        self._adverts.pop(model_id, None)
        self._adverts = dict(
            [(model_id, list(adverts[:MOST_ADVERTS])), *self._adverts.items()][:_MOST_MODELS]
        )
        document = {
            "peers": {peer: list(addrs) for peer, addrs in self._peers.items()},
            "adverts": {
                model: [[each.body.hex(), each.signature.hex()] for each in kept]
                for model, kept in self._adverts.items()
            },
        }
        partial = self._file.with_suffix(".part")
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps(document))
            partial.replace(self._file)
        except OSError as error:
            log.info("the peers cannot be remembered in %s: %s", self._file, error)

    def _read(self, document: dict[str, dict[str, Any]]) -> None:
        for peer, addrs in list(document["peers"].items())[:MOST_PEERS]:
            try:
                good = tuple(str(joined_through(f"{address}/p2p/{peer}")) for address in addrs[:8])
            except HostError:
                continue
            self._peers[peer] = good
        for model, kept in list(document["adverts"].items())[:_MOST_MODELS]:
            self._adverts[model] = [
                SignedAdvert(bytes.fromhex(body), bytes.fromhex(signature))
                for body, signature in kept[:MOST_ADVERTS]
            ]
