"""Real providers in a thread of this process, and channels that pay them on a real chain."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coincurve
import trio
from eth_account import Account as Accounts

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.ledger import IncomingChannel, Ledger
from hypercluster.market.money.channel import PayerChannel
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.units import HCT
from hypercluster.market.money.voucher import ChannelDescriptor, channel_salt
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.client.limits import Spending
from hypercluster.node.client.purse import Purse
from hypercluster.node.identity import address_of_peer
from hypercluster.node.rows import WireDtype
from hypercluster.node.testnet.faucet import give
from hypercluster.node.wire.messages import Open

if TYPE_CHECKING:
    from hypercluster.market.advert import Advert
    from hypercluster.node.network.host import Host
    from hypercluster.node.provider.process import Provider
    from hypercluster.node.serving.presence import Presence
    from hypercluster.node.shards.store import StoredModel

PRICE, PROMPT_PRICE = 1_000, 250
LOCAL = "/ip4/127.0.0.1/tcp/0"


@dataclass(eq=False)
class Served:
    """A provider that runs in a thread of its own, under its own trio.run."""

    provider: Provider
    presence: Presence
    operator: str
    ledger: Ledger
    chain: Chain
    thread: threading.Thread
    token: trio.lowlevel.TrioToken
    left: list[tuple[int, int] | None]
    """what its run returned, once it has ended"""
    scope: trio.CancelScope
    staker: Sender
    """the operator's account"""

    def __post_init__(self) -> None:
        self.advert = self.presence.told

    @property
    def open_sessions(self) -> int:
        offered = self.presence.advert()
        return offered.capacity - offered.free

    @property
    def address(self) -> str:
        """To join the network through."""
        return f"{self.advert.addrs[0]}/p2p/{self.advert.peer}"

    def stop(self) -> None:
        """End it, as a signal does."""
        self.token.run_sync_soon(self.scope.cancel)
        self.thread.join(300)

    def row(self, account: OutgoingAccount) -> IncomingChannel:
        row = self.ledger.payee.channel(account.channel_id)
        assert row is not None
        return row


@contextmanager
def running_provider(
    chain: Chain, stored: StoredModel, folder: Path, layers: tuple[int, int], **terms: Any
) -> Iterator[Served]:
    """A staked and authorised provider that serves `layers`.

    `terms` are those of ProviderTerms, `ways`, and `stake`: wei behind it, the minimum unless it is said.
    """
    from hypercluster.node.evidence.transcript_store import TranscriptStore
    from hypercluster.node.provider.prices import PriceRule
    from hypercluster.node.provider.process import HONEST, Provider
    from hypercluster.node.provider.terms import ProviderTerms
    from hypercluster.node.serving.terms import Wallets

    node, operator = Accounts.create(), Accounts.create()
    stake = terms.pop("stake", chain.staking.minimum)
    for address in (node.address, operator.address):
        give(chain, address, stake)
    staker = Sender(chain, operator)
    chain.staking.stake(staker, stake)
    chain.staking.authorize(staker, coincurve.PrivateKey(bytes(node.key)), stake)
    folder.mkdir(parents=True, exist_ok=True)
    ways = terms.pop("ways", HONEST)
    rule = PriceRule(start_wei=PRICE, start_prompt_wei=PROMPT_PRICE, adapt=False)
    # A small reserve: many tests count on wallets that hold the price of some tokens.
    defaults: dict[str, Any] = {"listen": (LOCAL,), "direct": LOCAL, "price": rule, "reserve_tokens": 16}
    with Ledger(f"sqlite:///{folder / 'ledger.sqlite'}") as ledger:
        provider = Provider(
            terms=ProviderTerms(start=layers[0], stop=layers[1], **(defaults | terms)),
            stored=stored,
            shard=stored.shard(*layers),
            wallets=Wallets(node_key=bytes(node.key), operator=operator.address, sender=Sender(chain, node)),
            chain=chain,
            ledger=ledger,
            transcripts=TranscriptStore(
                folder / "transcripts", keep_seconds=chain.disputes.keep_seconds, max_bytes=2**30
            ),
            ways=ways,
        )
        started = threading.Event()
        present: list[Presence] = []
        left: list[tuple[int, int] | None] = []
        scope = trio.CancelScope()
        tokens: list[trio.lowlevel.TrioToken] = []

        def ready(presence: Presence) -> None:
            present.append(presence)
            started.set()

        async def main() -> None:
            tokens.append(trio.lowlevel.current_trio_token())
            with scope:
                left.append(await provider.run(ready))

        def work() -> None:
            try:
                trio.run(main)
            finally:
                started.set()

        thread = threading.Thread(target=work, name=f"provider {layers}", daemon=True)
        thread.start()
        assert started.wait(300)
        assert present, "the provider did not start"
        try:
            yield Served(
                provider, present[0], operator.address, ledger, chain, thread, tokens[0], left, scope, staker
            )
        finally:
            if thread.is_alive():
                tokens[0].run_sync_soon(scope.cancel)
                thread.join(300)
            assert not thread.is_alive()


FREE = Spending()
"""without limits"""


@dataclass(eq=False)
class Wallet:
    """A payer's wallet with money, and the session key that signs for it."""

    chain: Chain
    sender: Sender
    session_key: bytes

    @property
    def purse(self) -> Purse:
        return Purse(session_key=self.session_key, wallet=self.sender.address, unlock=lambda: self.sender)

    @property
    def signer(self) -> coincurve.PrivateKey:
        return coincurve.PrivateKey(self.session_key)

    def channel(self, payee: Served | str, deposit: int = HCT, signer: str = "") -> OutgoingAccount:
        """Open a channel on chain to a provider, or to an operator whose key is its node key as well."""
        operator = payee if isinstance(payee, str) else payee.operator
        node = payee if isinstance(payee, str) else address_of_peer(payee.advert.peer)
        salt = channel_salt(node, secrets.randbits(48))
        descriptor = ChannelDescriptor(self.sender.address, operator, signer or address_of(self.signer), salt)
        self.chain.channels.open(self.sender, descriptor, deposit)
        return self.account(descriptor, deposit)

    def account(self, descriptor: ChannelDescriptor, deposit: int = HCT) -> OutgoingAccount:
        """Our end of a channel, whether or not it is on chain."""
        domain = self.chain.channels.domain
        return OutgoingAccount(
            descriptor, domain.channel_id(descriptor), PayerChannel(deposit), domain, self.signer
        )


def new_wallet(chain: Chain, hct: int = 1000 * HCT) -> Wallet:
    wallet = Accounts.create()
    give(chain, wallet.address, hct)
    return Wallet(chain, Sender(chain, wallet), secrets.token_bytes(32))


def opening(advert: Advert, account: OutgoingAccount, **changes: Any) -> Open:
    """A good Open, but for the changes."""
    fields: dict[str, Any] = {
        "session": secrets.token_bytes(16),
        "model_id": advert.model_id,
        "layer_start": advert.layer_start,
        "layer_stop": advert.layer_stop,
        "channel": account.descriptor,
        "wire_dtype": WireDtype.F32,
        "capacity": 200,
        "max_price_wei": PRICE,
        "max_prompt_price_wei": PROMPT_PRICE,
        "top_k": 8,
    }
    return Open(**(fields | changes))


async def raw_stream(host: Host, advert: Advert, direct: bool) -> Any:
    """A byte stream to a provider's inference protocol, of either kind."""
    from hypercluster.node.network.direct import dial_direct
    from hypercluster.node.wire.messages import INFER_PROTOCOL

    if direct:
        return await dial_direct(host, advert.peer, advert.direct, 10)
    return await host.open_stream(advert.peer, INFER_PROTOCOL, advert.addrs, 10)
