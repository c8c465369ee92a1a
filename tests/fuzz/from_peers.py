"""Decoders of what peers send: messages, frames, adverts, greetings, rows."""

from __future__ import annotations

from functools import cache
from typing import cast

import coincurve
import numpy as np
import trio
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import IncompleteReadError

from hypercluster.market.money.signing import keccak, recover_compact, sign_compact
from hypercluster.market.trust import merkle, q8
from hypercluster.market.trust.fingerprint import distance
from hypercluster.market.trust.receipt import DisputeDomain
from hypercluster.node.errors import WireError
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.evidence.rumour import claim_of
from hypercluster.node.evidence.transcript import Transcript
from hypercluster.node.identity import address_of_peer
from hypercluster.node.network import dialback, hello
from hypercluster.node.network.addresses import announced, joined_through, listened, parse, split_tcp
from hypercluster.node.network.adverts import DOMAIN, verify_advert
from hypercluster.node.network.muxing import Packets
from hypercluster.node.network.nearness import unpack_delays
from hypercluster.node.rows import WireDtype, unpack_input, unpack_topk
from hypercluster.node.wire import blocks
from hypercluster.node.wire.adverts import decode_advert, encode_advert
from hypercluster.node.wire.codec import decode, encode
from hypercluster.node.wire.framing import Frames
from hypercluster.node.wire.messages import Open, SignedAdvert
from hypercluster.node.wire.records import AuditStep, StageRecord
from hypercluster.node.wire.rumours import Rumour
from tests.fuzz.decoder import CORPUS, Decoder, from_text
from tests.fuzz.mutation import Shape

KEY = coincurve.PrivateKey(bytes([7]) * 32)
DISPUTES = DisputeDomain("0x" + "11" * 20, 1)
NOW = 1_790_000_000
"""unix seconds, for all that is dated in the corpus"""
WIDTH = 16
"""of rows of activations, and of fingerprinted ones"""


def _message(data: bytes) -> object:
    """What was read can be written, and read again as the same."""
    message = decode(data)
    again = decode(encode(message))
    assert type(again) is type(message)
    if isinstance(message, Open):
        message.quote(bytes(32), price_wei=0, prompt_price_wei=0, capacity=1, expires=NOW)
    return message


class _Bytes:
    """A stream that brings bytes in pieces of all sizes."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    async def read(self, most: int | None = None) -> bytes:
        size = (1, 2, 3, 64, 65_536)[self._at % 5]
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        return piece

    async def write(self, data: bytes) -> None:
        raise AssertionError("nobody writes here")


def _frames(data: bytes) -> object:
    async def read() -> None:
        frames = Frames(_Bytes(data))
        while True:
            await frames.receive(5)

    return trio.run(read)


def _packets(data: bytes) -> object:
    async def read() -> None:
        packets = Packets(cast("ReadWriteCloser", _Bytes(data)))
        while True:
            await packets.read_msg()

    return trio.run(read)


def _advert(data: bytes) -> object:
    advert = decode_advert(data)
    assert decode_advert(encode_advert(advert)) == advert
    return unpack_delays(advert.neighbours)


def _signed_advert(data: bytes) -> object:
    """Signed by a peer that may put into its advert what it likes."""
    signed = SignedAdvert(data, sign_compact(KEY, keccak(DOMAIN + data)))
    return verify_advert(signed, NOW + 5)


def _rows(data: bytes) -> object:
    """The first three bytes say what is asked, the rest is what was sent."""
    how, rows, body = data[0] if data else 0, data[1] if len(data) > 1 else 0, data[2:]
    dtype = WireDtype.F16 if how & 1 else WireDtype.Q8 if how & 16 else WireDtype.F32
    if how & 2:
        return unpack_topk(body, rows)
    width = q8.BLOCK if dtype is WireDtype.Q8 else WIDTH
    return unpack_input(body, rows, first=bool(how & 4), width=width, reads_tokens=bool(how & 8), dtype=dtype)


def _receipts(data: bytes) -> object:
    """A stage and its steps, as in the evidence of a case, whose receipts are computed and compared."""
    message = decode(data)
    if isinstance(message, StageRecord):
        return message.stage.struct_hash()
    if not isinstance(message, AuditStep):
        return None
    record = decode(_stage())
    assert isinstance(record, StageRecord)
    chain = ReceiptChain(record.stage, DISPUTES)
    chain.next(message).struct_hash()
    return Transcript(record, (message,)).receipts(DISPUTES)


def _rumour(data: bytes) -> object:
    message = decode(data)
    return claim_of(message, DISPUTES) if isinstance(message, Rumour) else None


@cache
def _stage() -> bytes:
    return (CORPUS / "message" / "StageRecord").read_bytes()


def _blocks(data: bytes) -> object:
    """A question, the head of an answer or what is held; what was read can be written, and read again as the same."""
    for read in (blocks.decode_asked, blocks.decode_answer, blocks.decode_held):
        try:
            message = read(data)
        except WireError as error:
            refused = error
        else:
            assert read(blocks.encode_blocks(message)) == message
            return message
    raise refused


def _fingerprint(data: bytes) -> object:
    rows = np.ones((max(1, (len(data) - 8) // 8), WIDTH), np.float32)
    return distance(data, rows, bytes(32))


def _signature(data: bytes) -> object:
    return recover_compact(keccak(data), data[:64])


def _proof(data: bytes) -> object:
    rows = merkle.split_rows(data, max(1, data[0] if data else 1))
    return merkle.root(rows), merkle.verify(rows[0], 0, len(rows), [bytes(32)], bytes(32))


def _address(text: str) -> object:
    address = parse(text)
    for read in (listened, announced, joined_through, split_tcp):
        try:
            read(text)
        except Exception as error:
            if type(error).__name__ != "HostError":
                raise
    assert parse(address.whole) == address
    return address


DECODERS = (
    Decoder(
        "message",
        _message,
        ("node/wire/codec.py:decode", "node/wire/fields.py:to_wei", "node/wire/messages.py:Open.quote"),
        Shape.FRAME,
    ),
    Decoder("packets", _packets, ("node/network/muxing.py:Packets.read_msg",), errors=(IncompleteReadError,)),
    Decoder("frames", _frames, ("node/wire/framing.py:decode_length", "node/wire/framing.py:Frames._taken")),
    Decoder(
        "advert",
        _advert,
        ("node/wire/adverts.py:decode_advert", "node/network/nearness.py:unpack_delays"),
        Shape.ADVERT,
    ),
    Decoder("signed_advert", _signed_advert, ("node/network/adverts.py:verify_advert",), Shape.ADVERT),
    Decoder(
        "rows",
        _rows,
        (
            "market/trust/q8.py:unpack",
            "node/rows.py:_numbers",
            "node/rows.py:unpack_input",
            "node/rows.py:unpack_tokens",
            "node/rows.py:unpack_topk",
        ),
    ),
    Decoder(
        "receipts",
        _receipts,
        ("node/wire/records.py:StageRecord.stage", "node/evidence/verdicts.py:verdict_on"),
        Shape.FRAME,
    ),
    Decoder(
        "rumour",
        _rumour,
        ("node/evidence/rumour.py:_verdict", "node/wire/rumours.py:Rumour.stage"),
        Shape.FRAME,
    ),
    Decoder(
        "hello", hello._decode, ("node/network/hello.py:_decode", "node/network/hello.py:_model"), Shape.JSON
    ),
    Decoder("dialback_request", dialback._request, ("node/network/dialback.py:_request",), Shape.JSON),
    Decoder("dialback_answer", dialback._answers, ("node/network/dialback.py:_answers",), Shape.JSON),
    Decoder(
        "blocks_message",
        _blocks,
        (
            "node/wire/blocks.py:_fields",
            "node/wire/blocks.py:decode_asked",
            "node/wire/blocks.py:decode_held",
        ),
        Shape.JSON,
    ),
    Decoder("address", from_text(_address), ("node/network/addresses.py:parse",), Shape.TEXT),
    Decoder("peer", from_text(address_of_peer), ("node/identity.py:public_key_of_peer",), Shape.TEXT),
    Decoder("signature", _signature, ("market/money/signing.py:recover_compact",)),
    Decoder("rows_proof", _proof, ("market/trust/merkle.py:split_rows", "market/trust/merkle.py:verify")),
    Decoder(
        "fingerprint",
        _fingerprint,
        ("market/trust/fingerprint.py:_read",),
    ),
)
