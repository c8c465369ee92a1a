"""Random schedules of lost, late, repeated and refused requests and answers on the way to a chain (C6).

    python scripts/fuzz_sending.py [--schedules 1000] [--seed 0]

Each sends one transfer over a proxy. What was said to be sent must have arrived once, what was said not to be must not,
and what is said to be unknown may have arrived once or not at all.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from pathlib import Path

from eth_account import Account

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hypercluster.market.chain import Chain, deploy
from hypercluster.market.errors import NodeUnreachable, TransactionTimeout
from hypercluster.node.testnet.anvil import DEPLOYER_KEY, running_anvil
from tests.market.chain.test_sending_once import TROUBLES, Way, over


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, seen, wrong = random.Random(options.seed), Counter[str](), 0
    with running_anvil() as url:
        account = Account.from_key(DEPLOYER_KEY)
        chain = Chain(url, deploy(url, account))
        for number in range(options.schedules):
            to = Account.create().address
            does = rng.choices(TROUBLES, k=rng.randint(1, 6))
            may: tuple[int, ...]
            with over(chain, Way(*does), account) as (there, sender):
                try:
                    there.token.transfer(sender, to, number + 1)
                    said, may = "sent", (number + 1,)
                except TransactionTimeout:
                    said, may = "unknown", (0, number + 1)
                except NodeUnreachable:
                    said, may = "not sent", (0,)
            seen[said] += 1
            if (got := chain.token.balance(to)) not in may:
                wrong += 1
                print(f"wrong: schedule {number} ({', '.join(does)}) was {said}, and {got} arrived")
    print(f"{options.schedules} schedules, seed {options.seed}: {dict(seen)}, {wrong} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
