"""Every decoder of what somebody else wrote."""

from __future__ import annotations

from tests.fuzz import from_files, from_peers, from_programs
from tests.fuzz.decoder import Decoder

DECODERS: dict[str, Decoder] = {
    decoder.name: decoder for decoder in (*from_peers.DECODERS, *from_files.DECODERS, *from_programs.DECODERS)
}
