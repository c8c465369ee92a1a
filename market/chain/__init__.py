"""The chain: a node, the accounts that send through it, and our contracts on it (web3, synchronous)."""

from __future__ import annotations

from hypercluster.market.chain.channels import Channels, ChannelState, Claim
from hypercluster.market.chain.deploy import deploy
from hypercluster.market.chain.deployment import Deployment
from hypercluster.market.chain.disputes import LOCAL_TERMS, Disputes, DisputeTerms
from hypercluster.market.chain.events import ChannelEvent, Closed, CloseRequested, Opened, Settled, ToppedUp
from hypercluster.market.chain.rpc import Rpc
from hypercluster.market.chain.sender import Mined, Sender, Sent
from hypercluster.market.chain.staking import Stake, Staking
from hypercluster.market.chain.token import Permit, Token

__all__ = [
    "LOCAL_TERMS",
    "Chain",
    "ChannelEvent",
    "ChannelState",
    "Channels",
    "Claim",
    "CloseRequested",
    "Closed",
    "Deployment",
    "DisputeTerms",
    "Disputes",
    "Mined",
    "Opened",
    "Permit",
    "Rpc",
    "Sender",
    "Sent",
    "Settled",
    "Stake",
    "Staking",
    "Token",
    "ToppedUp",
    "deploy",
]


class Chain(Rpc):
    """A node of the chain that the contracts were deployed on, with their bindings.

    Args:
        rpc_url: HTTP or HTTPS address of the node's JSON-RPC.
        deployment: where the contracts are.
        confirmations: blocks after which something counts as final; see Rpc.

    Raises:
        NodeUnreachable: no answer, or the answer of another chain.
    """

    def __init__(self, rpc_url: str, deployment: Deployment, confirmations: int | None = None) -> None:
        super().__init__(rpc_url, deployment.chain_id, confirmations)
        self.deployment = deployment
        self.token = Token(self, deployment.token)
        self.staking = Staking(self, deployment.registry, self.token)
        self.channels = Channels(self, deployment.channels, self.token)
        self.disputes = Disputes(self, deployment.cases, deployment.proofs, deployment.demands, self.token)
