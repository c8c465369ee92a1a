"""Deploying the contracts."""

from __future__ import annotations

from dataclasses import astuple

from eth_account.signers.local import LocalAccount

from hypercluster.contracts import artifact
from hypercluster.market.chain.channels import Channels
from hypercluster.market.chain.deployment import CONTRACTS, Deployment
from hypercluster.market.chain.disputes.terms import DisputeTerms
from hypercluster.market.chain.rollups import check_supported
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Sender
from hypercluster.market.chain.staking import Staking
from hypercluster.market.chain.token import Token
from hypercluster.market.chain.trying import look_over, try_out
from hypercluster.market.errors import ChainError
from hypercluster.market.money.signing import checksum
from hypercluster.market.money.units import HCT, IN_HCT

SUPPLY = 10**9 * HCT
DAY = 86_400
SESSIONS_PER_MINIMUM = 16
"""sessions that the minimum stake carries, unless it is said"""


def deploy(
    rpc_url: str,
    account: LocalAccount,
    *,
    supply: int = SUPPLY,
    min_stake: int = 100 * HCT,
    session_stake: int | None = None,
    unbonding_seconds: int = 14 * DAY,
    grace_seconds: int = DAY,
    terms: DisputeTerms | None = None,
    token: str | None = None,
) -> Deployment:
    """Deploy registry, channels and the contracts of disputes from one account, and a token that it holds all of.

    The three contracts of disputes are then the registry's slashers, for good.

    Args:
        rpc_url: the node.
        account: pays for it.
        supply: wei of HCT that will ever exist.
        min_stake: wei of active stake behind a node key that makes it eligible.
        session_stake: wei of that for each session it offers, at least 1; None for a sixteenth of the minimum.
        unbonding_seconds: how long stake thaws.
        grace_seconds: how long a payer waits for its rest.
        terms: what faults cost and how long disputes take; None for those of a real chain.
        token: address of an ERC-20 that pays instead of one of our own; all amounts are then wei of it, and
            ``supply`` counts for nothing. The account holds some, with which it is tried whether it can pay.

    Raises:
        UnusableToken: the token keeps a part of what is sent, changes balances by itself, or is none.
        ChainError: the chain is of a kind that is not supported, the terms do not fit together, or stake would thaw too
            fast or be too small for them.
        NodeUnreachable, InsufficientFunds, Reverted, TransactionTimeout: nothing usable was deployed.
    """
    terms = terms or DisputeTerms()
    terms.check(unbonding_seconds, min_stake)
    sender = Sender(Rpc(rpc_url), account)
    check_supported(sender.rpc)
    block = sender.rpc.block_number()
    unit, foreign = IN_HCT, token is not None
    if token is not None:
        token = checksum(token)
        unit = look_over(Token(sender.rpc, token))
    else:
        token, block = _create(sender, "HyperToken", account.address, supply)
    if session_stake is None:
        session_stake = max(1, min_stake // SESSIONS_PER_MINIMUM)
    registry, _ = _create(sender, "StakingRegistry", token, unbonding_seconds, min_stake, session_stake)
    channels, _ = _create(sender, "PaymentChannels", token, grace_seconds)
    paying = Token(sender.rpc, token)
    if foreign:
        try_out(paying, Channels(sender.rpc, channels, paying), sender)
    cases, _ = _create(sender, "DisputeCases", registry, astuple(terms))
    proofs, _ = _create(sender, "DisputeProofs", cases)
    demands, _ = _create(sender, "DisputeDemands", cases)
    staking = Staking(sender.rpc, registry, paying)
    staking.set_slashers(sender, [cases, proofs, demands])
    places = (token, registry, channels, cases, proofs, demands)
    code = dict(zip(CONTRACTS, sender.rpc.code_hashes(places), strict=True))
    return Deployment(sender.rpc.chain_id, *places, block, code, *unit)


def _create(sender: Sender, name: str, *arguments: object) -> tuple[str, int]:
    compiled = artifact(name)
    maker = sender.rpc.web3.eth.contract(abi=compiled.abi, bytecode=compiled.bytecode)
    receipt = sender.transact(f"to deploy {name}", None, maker.constructor(*arguments).data_in_transaction)
    if receipt.contract is None:
        raise ChainError(f"The node deployed {name} and named no address for it.")
    return receipt.contract, receipt.block
