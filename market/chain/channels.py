"""PaymentChannels: opening, settling and closing channels, and what the chain says of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from web3.types import LogReceipt

from hypercluster.market.chain.contract import Contract
from hypercluster.market.chain.events import ChannelEvent, Closed, CloseRequested, Opened, Settled, ToppedUp
from hypercluster.market.chain.logs import logs_of
from hypercluster.market.chain.rollups import data_fee, has_data_fee
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Mined, Sender
from hypercluster.market.chain.token import Token
from hypercluster.market.errors import InvalidAmount
from hypercluster.market.money.claiming import ClaimCost
from hypercluster.market.money.signing import SIGNATURE_BYTES, address_bytes, checksum
from hypercluster.market.money.units import check_wei
from hypercluster.market.money.voucher import ChannelDescriptor, VoucherDomain

SETTLE_GAS = 37_500  # of a batch, and of each of its rows; see contracts/gas-snapshot.json
SETTLE_ROW_GAS = 14_700
SETTLE_BYTES = 220  # of a signed batch, and of each of its rows
SETTLE_ROW_BYTES = 192
OPEN_GAS = 90_000  # of a batch, its permit included, and of each of its rows
OPEN_ROW_GAS = 32_200
OPEN_BYTES = 320  # of a signed batch with its permit, and of each of its rows
OPEN_ROW_BYTES = 128
TOP_UP_GAS = 100_000  # with its permit
TOP_UP_BYTES = 410

Claim = tuple[ChannelDescriptor, int, bytes]
"""A voucher to settle: its channel, the cumulative amount in wei, the 64-byte signature."""


@dataclass(frozen=True)
class ChannelState:
    """The chain's view of a channel: wei, unix seconds, and status 0 (none), 1 (open) or 2 (ended)."""

    settled: int
    deposit: int
    close_at: int
    status: int

    @property
    def exists(self) -> bool:
        """Whether it was ever opened."""
        return self.status != 0

    @property
    def open(self) -> bool:
        """Whether vouchers can be settled on it, a requested close notwithstanding."""
        return self.status == 1

    @property
    def closed(self) -> bool:
        """Whether it has ended, for good."""
        return self.status == 2


class Channels(Contract):
    """The channels contract. Methods that take a sender return when the transaction is mined.

    All of those raise Reverted, InsufficientFunds, NodeUnreachable, TransactionTimeout, TransactionReplaced.
    """

    artifact_name = "PaymentChannels"

    def __init__(self, rpc: Rpc, address: str, token: Token) -> None:
        super().__init__(rpc, address)
        self.token = token
        self.domain = VoucherDomain(self.address, rpc.chain_id)
        """The EIP-712 domain in which vouchers for this contract are signed."""

    @cached_property
    def _data_costs(self) -> bool:
        return has_data_fee(self.rpc)

    @cached_property
    def grace_seconds(self) -> int:
        """How long a payer waits between asking to close and withdrawing."""
        return int(self._read("grace"))

    def state(self, channel_id: bytes) -> ChannelState:
        """Return the chain's view of a channel, as of its latest block."""
        return ChannelState(*self._read("channels", channel_id))

    def confirmed(self, channel_id: bytes) -> ChannelState:
        """Return the same of the latest block that counts as final."""
        block = self.rpc.confirmed_block() if self.rpc.confirmations else None
        return ChannelState(*self._read("channels", channel_id, block=block))

    def open(self, sender: Sender, descriptor: ChannelDescriptor, deposit: int) -> Mined:
        """Open a channel from the sender, with a permit over the deposit in the same transaction."""
        self._must_pay(sender, [descriptor])
        with sender.permits:
            permit = self.token.permit(sender, self.address, check_wei(deposit))
            opening = descriptor.payee, descriptor.signer, descriptor.salt, deposit
            return self._send(sender, "to open a channel", "openWithPermit", *opening, *permit)

    def open_many(self, sender: Sender, openings: Sequence[tuple[ChannelDescriptor, int]]) -> Mined:
        """Open several channels with their deposits in one transaction: all or none."""
        self._must_pay(sender, [descriptor for descriptor, _ in openings])
        rows = [(each.payee, each.signer, each.salt, check_wei(deposit)) for each, deposit in openings]
        with sender.permits:
            permit = self.token.permit(sender, self.address, sum(deposit for _, deposit in openings))
            return self._send(sender, f"to open {len(rows)} channels", "openManyWithPermit", rows, *permit)

    def top_up(self, sender: Sender, descriptor: ChannelDescriptor, amount: int) -> Mined:
        """Add to a channel's deposit; a requested close is called off."""
        with sender.permits:
            permit = self.token.permit(sender, self.address, check_wei(amount))
            arguments = _row(descriptor), amount, *permit
            return self._send(sender, "to top up a channel", "topUpWithPermit", *arguments)

    def settle(
        self, sender: Sender, descriptor: ChannelDescriptor, cumulative: int, signature: bytes
    ) -> Mined:
        """Turn a voucher into HCT for the payee."""
        return self._send(
            sender, "to settle a channel", "settle", _row(descriptor), check_wei(cumulative), signature
        )

    def settle_batch(self, sender: Sender, payee: str, claims: Iterable[Claim]) -> Mined:
        """Settle vouchers of several channels of one payee; rows that bring nothing are passed over."""
        rows = []
        for descriptor, cumulative, signature in claims:
            if descriptor.payee != checksum(payee) or len(signature) != SIGNATURE_BYTES:
                raise InvalidAmount("A batch settles 64-byte vouchers of channels to one payee.")
            voucher = check_wei(cumulative), signature[:32], signature[32:]
            rows.append((descriptor.payer, descriptor.signer, descriptor.salt, *voucher))
        return self._send(sender, f"to settle {len(rows)} channels", "settleBatch", checksum(payee), rows)

    def close(
        self, sender: Sender, descriptor: ChannelDescriptor, cumulative: int = 0, signature: bytes = b""
    ) -> Mined:
        """End a channel as its payee: settle the voucher, if any, and refund the payer at once."""
        arguments = _row(descriptor), check_wei(cumulative), signature
        return self._send(sender, "to close a channel", "close", *arguments)

    def request_close(self, sender: Sender, descriptor: ChannelDescriptor) -> Mined:
        """Ask for the rest back as the payer; the payee has the grace period to settle."""
        return self._send(sender, "to ask for a close", "requestClose", _row(descriptor))

    def withdraw(self, sender: Sender, descriptor: ChannelDescriptor) -> Mined:
        """Take the rest back as the payer, after the grace period; the channel ends."""
        return self._send(sender, "to withdraw from a channel", "withdraw", _row(descriptor))

    def settle_cost(self) -> ClaimCost:
        """Return about what settling channels in one batch costs now, data on a rollup's L1 included."""
        price = self.rpc.gas_price()
        base = row = 0
        if self._data_costs:
            base = data_fee(self.rpc, SETTLE_BYTES)
            row = max(0, data_fee(self.rpc, SETTLE_BYTES + SETTLE_ROW_BYTES) - base)
        return ClaimCost(SETTLE_GAS * price + base, SETTLE_ROW_GAS * price + row)

    def funding_cost_wei(self, openings: int, top_ups: int) -> int:
        """Return about what opening so many channels at once and topping up others costs now, in wei of the chain's
        coin, data on a rollup's L1 included.
        """
        gas = TOP_UP_GAS * top_ups + (OPEN_GAS + OPEN_ROW_GAS * openings if openings else 0)
        if not gas:
            return 0
        data = 0
        if self._data_costs:
            data += top_ups * data_fee(self.rpc, TOP_UP_BYTES) if top_ups else 0
            data += data_fee(self.rpc, OPEN_BYTES + OPEN_ROW_BYTES * openings) if openings else 0
        return gas * self.rpc.gas_price() + data

    def events_in(self, receipt: Mined) -> list[ChannelEvent]:
        """Return the channel events of a transaction."""
        return [self._parse(log) for log in receipt.logs if log["address"] == self.address]

    def events_for(
        self,
        payee: str,
        from_block: int,
        channel_ids: Collection[bytes] | None = None,
        tip: tuple[int, bytes] | None = None,
    ) -> tuple[list[ChannelEvent], int]:
        """Return what happened to a payee's channels from a block on, in order.

        Args:
            payee: whose new channels to look for.
            from_block: first block to read.
            channel_ids: 32-byte ids of the channels to watch; None watches everybody's.
            tip: number and hash of the latest block, where they were just asked for.

        Returns:
            The events, and the block to read from the next time.
        """
        tip = tip or self.rpc.tip()
        next_block = tip[0] + 1
        whom = "0x" + address_bytes(checksum(payee)).hex().rjust(64, "0")
        wanted: list[list[str | list[str] | None]] = [[self._topic("Opened"), None, None, whom]]
        changes = [self._topic(name) for name in ("ToppedUp", "Settled", "CloseRequested", "Closed")]
        if channel_ids is None:
            wanted.append([changes])
        elif channel_ids:
            wanted.append([changes, ["0x" + channel_id.hex() for channel_id in channel_ids]])
        address = self._contract.address
        logs = logs_of(
            self.rpc,
            from_block,
            tip,
            [{"address": address, "topics": topics} for topics in wanted],
        )
        events = sorted(map(self._parse, logs), key=lambda event: (event.block, event.index))
        return events, max(next_block, from_block)

    def _parse(self, log: LogReceipt) -> ChannelEvent:
        name, values = self.decoded(log)
        where = bytes(values["channelId"]), int(log["blockNumber"]), int(log["logIndex"])
        match name:
            case "Opened":
                accounts = values["payer"], values["payee"], values["signer"]
                return Opened(*where, *accounts, bytes(values["salt"]), values["deposit"])
            case "ToppedUp":
                return ToppedUp(*where, values["deposit"])
            case "Settled":
                return Settled(*where, values["payee"], values["cumulative"], values["paid"])
            case "CloseRequested":
                return CloseRequested(*where, values["closeAt"])
            case _:
                return Closed(*where, values["settled"], values["refunded"])

    @staticmethod
    def _must_pay(sender: Sender, descriptors: Iterable[ChannelDescriptor]) -> None:
        for descriptor in descriptors:
            if descriptor.payer != sender.address:
                raise InvalidAmount(f"{sender.address} cannot open a channel that {descriptor.payer} pays.")


def _row(descriptor: ChannelDescriptor) -> tuple[str, str, str, bytes]:
    return descriptor.payer, descriptor.payee, descriptor.signer, descriptor.salt
