"""A chain whose blocks are made by hand, or by a thread in the background."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hypercluster.market.chain import Chain

PAUSE = 0.3


def ask(chain: Chain, method: str, *arguments: object) -> object:
    """The node's own answer to a request."""
    answer = chain.web3.provider.make_request(method, list(arguments))  # type: ignore[arg-type]
    assert "error" not in answer, answer
    return answer["result"]


def transfer(chain: Chain, to: str, amount: int) -> str:
    """Calldata of a transfer of HCT."""
    return str(chain.token._contract.encode_abi("transfer", args=[to, amount]))


@contextmanager
def mining(chain: Chain, base_fee: int | None = None) -> Iterator[None]:
    """A block every PAUSE seconds until the end of the block, with this base fee (wei of a gas) if one is given."""
    done = threading.Event()

    def mine() -> None:
        while not done.wait(PAUSE):
            if base_fee is not None:
                ask(chain, "anvil_setNextBlockBaseFeePerGas", hex(base_fee))
            ask(chain, "evm_mine")

    miner = threading.Thread(target=mine)
    miner.start()
    try:
        yield
    finally:
        done.set()
        miner.join()
