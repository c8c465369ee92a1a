"""Wallets and channels with a target, for honest payers and for hostile ones."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import coincurve
from eth_account import Account as Accounts

from hypercluster.market.chain import Sender
from hypercluster.market.money.channel import PayerChannel
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.units import HCT
from hypercluster.market.money.voucher import ChannelDescriptor, channel_salt
from hypercluster.node.client.account import OutgoingAccount
from hypercluster.node.identity import address_of_peer
from hypercluster.node.testnet.faucet import give
from tests.siege.tally import Tally
from tests.siege.target import Target


@dataclass(eq=False, slots=True)
class Purse:
    """A wallet with money for channels with one target; `tally` notes what they cost."""

    target: Target
    sender: Sender
    tally: Tally

    @classmethod
    def filled(cls, target: Target, tally: Tally | None = None, hct: int = 1000 * HCT) -> Purse:
        wallet = Accounts.create()
        give(target.chain, wallet.address, hct)
        return cls(target, Sender(target.chain, wallet), tally or Tally())

    def described(self, key: bytes) -> OutgoingAccount:
        """A channel of the session key `key` that is not on chain."""
        salt = channel_salt(address_of_peer(self.target.peer), secrets.randbits(48))
        signer = coincurve.PrivateKey(key)
        descriptor = ChannelDescriptor(self.sender.address, self.target.operator, address_of(signer), salt)
        domain = self.target.chain.channels.domain
        return OutgoingAccount(descriptor, domain.channel_id(descriptor), PayerChannel(0), domain, signer)

    def opened(self, key: bytes, deposit: int = HCT) -> OutgoingAccount:
        """The same on chain, with `deposit` wei."""
        account = self.described(key)
        mined = self.target.chain.channels.open(self.sender, account.descriptor, deposit)
        self.tally.mined(mined, locked=deposit)
        account.channel = PayerChannel(deposit)
        return account
