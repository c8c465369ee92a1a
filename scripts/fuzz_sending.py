"""Random schedules of lost, late, repeated and refused requests and answers on the way to a chain (C6).

    python scripts/fuzz_sending.py [--schedules 1000] [--seed 0]

Each sends one transfer over a proxy. What was said to be sent must have arrived once, what was said not to be must not,
and what is said to be unknown may have arrived once or not at all.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from eth_account import Account

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hypercluster.market.chain import Chain, deploy
from hypercluster.node.testnet.anvil import DEPLOYER_KEY, running_anvil
from tests.market.chain.troubles import fuzz


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with running_anvil() as url:
        account = Account.from_key(DEPLOYER_KEY)
        told, wrong = fuzz(Chain(url, deploy(url, account)), account, options.schedules, options.seed)
    for each in wrong:
        print(f"wrong: {each}")
    print(f"{options.schedules} schedules, seed {options.seed}: {dict(told)}, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
