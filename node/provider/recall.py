"""Answering a client that asks to see a step again which this provider signed for."""

from __future__ import annotations

import logging
from functools import partial

import trio

from hypercluster.market.trust.receipt import DisputeDomain
from hypercluster.node.errors import ConnectionLost, ErrorCode
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.network.connection import Connection
from hypercluster.node.serving.refusals import OPEN_SECONDS, SEND_SECONDS, Refused, refuse
from hypercluster.node.wire.audit import Recall, Recalled
from hypercluster.node.wire.bounds import MAX_FRAME

log = logging.getLogger(__name__)


async def serve_recall(connection: Connection, transcripts: TranscriptStore, domain: DisputeDomain) -> None:
    """Answer one question. Never raises for anything that a peer does."""
    try:
        asked = await connection.receive(OPEN_SECONDS)
        if not isinstance(asked, Recall):
            raise Refused(ErrorCode.BAD_REQUEST, "Only Recall is answered here.")
        # All of a stage is read only for its own client.
        record = await trio.to_thread.run_sync(transcripts.record, asked.stage_hash)
        load = partial(transcripts.load, asked.stage_hash, asked.seq)
        transcript = await trio.to_thread.run_sync(load) if record.client == connection.peer else None
        if transcript is None or len(transcript.steps) <= asked.seq:
            # The same answer for both: a stranger learns nothing.
            raise Refused(ErrorCode.UNKNOWN_SESSION, "There is no such step of yours.")
        receipts = await trio.to_thread.run_sync(partial(transcript.receipts, domain, own=True))
        connection.raise_bound(MAX_FRAME)
        shown = Recalled(transcript.steps[-1], receipts[-1][0].previous)
        await connection.send(shown, SEND_SECONDS)
    except ConnectionLost as error:
        log.debug("who asked for a step left: %s", error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the peer gets its code and the node lives on
        await refuse(connection, error)
    finally:
        await connection.close()
