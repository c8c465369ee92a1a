"""Answering a client that asks to see a step again which this provider signed for."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from hypercluster.market.trust.receipt import DisputeDomain
from hypercluster.node.errors import ConnectionLost, ErrorCode
from hypercluster.node.evidence.transcript_store import NoTranscript, TranscriptStore
from hypercluster.node.network.budgets import OverBudget
from hypercluster.node.network.connection import Connection
from hypercluster.node.network.host import Host
from hypercluster.node.network.stream import Stream
from hypercluster.node.serving.refusals import OPEN_SECONDS, SEND_SECONDS, Refused, refuse
from hypercluster.node.wire.audit import Recall, Recalled
from hypercluster.node.wire.bounds import MAX_FRAME

log = logging.getLogger(__name__)

NO_STEP = "There is no such step of yours."
MOST_BYTES = 8 * 2**20
"""of rows in one answer to several steps; one step is shown however long it is"""


async def hear(host: Host, show: Callable[[Connection], Awaitable[None]], stream: Stream) -> None:
    """Have one question answered, if there is room for it. Who has paid is told where there is none: a node that resets
    its questions would look as if it was gone. Raises OverBudget: a stranger is reset.
    """
    connection = Connection(stream)
    try:
        with host.within("recall", stream.peer, stream.ip):
            await show(connection)
    except OverBudget as error:
        if not host.knows(stream.peer):
            raise
        await refuse(connection, error)


async def serve_recall(connection: Connection, transcripts: TranscriptStore, domain: DisputeDomain) -> None:
    """Answer one question: a step, or of several as many as fit into one answer.

    Never raises for anything that a peer does.
    """
    try:
        asked = await connection.receive(OPEN_SECONDS)
        if not isinstance(asked, Recall):
            raise Refused(ErrorCode.BAD_REQUEST, "Only Recall is answered here.")
        # All of a stage is read only for its own client.
        record = await trio.to_thread.run_sync(transcripts.record, asked.stage_hash)
        last = asked.seq + max(1, asked.count) - 1
        load = partial(transcripts.load, asked.stage_hash, last)
        transcript = await trio.to_thread.run_sync(load) if record.client == connection.peer else None
        if transcript is None or len(transcript.steps) <= asked.seq:
            # The same answer for both: a stranger learns nothing.
            raise Refused(ErrorCode.UNKNOWN_SESSION, NO_STEP)
        receipts = await trio.to_thread.run_sync(partial(transcript.receipts, domain, own=True))
        connection.raise_bound(MAX_FRAME)
        sent = 0
        for step, (receipt, _) in zip(transcript.steps[asked.seq :], receipts[asked.seq :], strict=True):
            sent += len(step.input) + len(step.output)
            if sent > MOST_BYTES and step.seq > asked.seq:
                return  # it may ask again from here on
            await connection.send(Recalled(step, receipt.previous), SEND_SECONDS)
    except NoTranscript:
        await refuse(connection, Refused(ErrorCode.UNKNOWN_SESSION, NO_STEP))
    except ConnectionLost as error:
        log.debug("who asked for a step left: %s", error)
    except Exception as error:  # noqa: BLE001 - whatever it is, the peer gets its code and the node lives on
        await refuse(connection, error)
    finally:
        await connection.close()
