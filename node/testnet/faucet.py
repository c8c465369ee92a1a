"""Test money: on a local Anvil chain its first account, the deployer, hands it out."""

from functools import lru_cache
from threading import Lock

from eth_account import Account

from hypercluster.market.chain import Chain, Sender
from hypercluster.market.errors import ChainError
from hypercluster.node.testnet.anvil import CHAIN_ID, DEPLOYER_KEY

GAS_MONEY_WEI = 10**18
_LOCK = Lock()


def give(chain: Chain, address: str, amount: int) -> None:
    """Send `amount` wei of HCT and one native coin to `address` from the testnet's deployer.

    May be called from several threads.

    Raises:
        ChainError: this is no local testnet, or its deployer has no HCT left.
    """
    if chain.deployment.chain_id != CHAIN_ID:
        raise ChainError(
            f"Chain {chain.deployment.chain_id} is no local testnet: send HCT and coin for gas to {address} yourself."
        )
    with _LOCK:
        deployer = _deployer(chain)
    deployer.transact("to hand out coin for gas", address, "0x", GAS_MONEY_WEI)
    if amount:
        chain.token.transfer(deployer, address, amount)


@lru_cache(maxsize=4)
def _deployer(chain: Chain) -> Sender:
    """One sender per chain, as it is the sender that keeps nonces apart."""
    return Sender(chain, Account.from_key(DEPLOYER_KEY))
