"""All attacks by name, for tests, the benchmark and the process that runs them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tests.siege.hostile import adverts, audits, connections, honeypots, opens, protocols, records
from tests.siege.tally import Tally
from tests.siege.target import Target

if TYPE_CHECKING:
    from trio_typing import TaskStatus


class Attack(Protocol):
    """Runs until it is cancelled; `strength` is how many connections, or adverts, it uses at once.

    It goes under a tenth as many names, a hundred at most (tests.siege.hostile.identities). What it cost and what it
    got goes into `tally`; `task_status.started()` says that it is under way, so `nursery.start` waits for that.
    """

    async def __call__(
        self, target: Target, strength: int, tally: Tally, *, task_status: TaskStatus[None] = ...
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Listed:
    """One attack: what runs it, what it is in a few words, and on whom: provider or verifier."""

    run: Attack
    what: str
    role: str = "provider"


ATTACKS: dict[str, Listed] = {
    "open-nothing": Listed(opens.open_without_channel, "Opens on channels that do not exist"),
    "open-foreign": Listed(opens.open_foreign_channel, "Opens on somebody else's channel"),
    "open-closing": Listed(opens.open_closed_channel, "Opens on channels that are closing"),
    "hold": Listed(opens.hold_sessions, "sessions held on 1 wei, nothing paid"),
    "hold-rich": Listed(opens.hold_sessions_rich, "sessions held on 1 HCT, nothing paid"),
    "pay-once": Listed(opens.pay_once, "sessions held after one paid token"),
    "open-close": Listed(opens.open_and_close, "Open and Close without a step"),
    "open-vanish": Listed(opens.open_and_vanish, "Open, and the connection cut"),
    "connect": Listed(connections.connect_and_wait, "TCP connections, not a word"),
    "half-open": Listed(connections.half_open_handshakes, "half a Noise handshake"),
    "drip": Listed(connections.dripping_handshakes, "a handshake byte by byte"),
    "garbage": Listed(connections.garbage, "random bytes for a handshake"),
    "handshakes": Listed(connections.churn_handshakes, "whole handshakes, then cut"),
    "churn": Listed(connections.churn_connections, "libp2p connections, then cut"),
    "names": Listed(connections.crowd_of_names, "libp2p connections that stay, a name each"),
    "sit": Listed(connections.sit_on_connections, "direct connections, not a word"),
    "streams": Listed(connections.streams_without_end, "streams, not a word"),
    "half-frame": Listed(protocols.half_a_frame, "half a frame on every protocol"),
    "adverts": Listed(protocols.ask_adverts, "requests for the advert"),
    "hello": Listed(protocols.greet, "greetings"),
    "dial-back": Listed(protocols.dial_me_back, "requests to dial back"),
    "recall": Listed(protocols.recall, "recalls of what never was"),
    "records": Listed(records.flood_records, "DHT records and questions"),
    "gossip": Listed(adverts.gossip_unstaked, "genuine adverts without stake, by gossip"),
    "gossip-old": Listed(adverts.gossip_expired, "expired adverts, by gossip"),
    "gossip-forged": Listed(adverts.gossip_forged, "forged adverts, by gossip"),
    "one-stake": Listed(adverts.gossip_one_stake, "adverts of many keys on one stake"),
    "honeypots": Listed(honeypots.honeypots, "providers of one stake that take and do not give"),
    "audit-nothing": Listed(
        audits.audits_without_channel, "audits on channels that do not exist", "verifier"
    ),
    "audit-hold": Listed(audits.hold_audits, "audits held on 1 wei", "verifier"),
    "audit-ranges": Listed(audits.many_ranges, "one-token audits of every range", "verifier"),
    "evidence": Listed(audits.evidence_of_no_case, "evidence of cases that do not exist", "verifier"),
}
