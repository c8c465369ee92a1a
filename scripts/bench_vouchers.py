"""Time a voucher's signing, verifying, admitting and storing, and eth-account's generic typed-data path.

    python scripts/bench_vouchers.py [--rounds 2000] [--json]

Rounds of all paths alternate, so that a busy moment of the machine hits them alike. Figures are medians.
Storing goes to SQLite in WAL mode with synchronous=FULL in a temporary folder: mostly the disk's own time.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import coincurve
from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data

from hypercluster.market.ledger import Ledger
from hypercluster.market.money.channel import PayeeChannel
from hypercluster.market.money.signing import address_of
from hypercluster.market.money.voucher import DOMAIN_NAME, ChannelDescriptor, VoucherDomain

T = TypeVar("T")

SLOW_EVERY = 10  # the generic path and the disk run in one round of ten


def measure(rounds: int, folder: Path) -> dict[str, float]:
    """Return the median time of each path in microseconds."""
    key = coincurve.PrivateKey()
    account = Account.from_key(key.secret)
    domain = VoucherDomain("0x" + "5f" * 20, 31337)
    descriptor = ChannelDescriptor(
        "0x" + "11" * 20, "0x" + "22" * 20, address_of(key), secrets.token_bytes(32)
    )
    channel_id = domain.channel_id(descriptor)
    channel = PayeeChannel(domain, descriptor, deposit=10**27)
    ledger = Ledger(f"sqlite:///{folder / 'ledger.db'}")
    ledger.payee.adopt(domain, descriptor, deposit=channel.deposit)

    def generic(cumulative: int) -> SignableMessage:
        return encode_typed_data(
            domain_data={
                "name": DOMAIN_NAME,
                "version": VoucherDomain.VERSION,
                "chainId": domain.chain_id,
                "verifyingContract": domain.contract,
            },
            message_types={
                "Voucher": [
                    {"name": "channelId", "type": "bytes32"},
                    {"name": "cumulative", "type": "uint96"},
                ]
            },
            message_data={"channelId": channel_id, "cumulative": cumulative},
        )

    def sign_generic(cumulative: int) -> bytes:
        return bytes(account.sign_message(generic(cumulative)).signature)

    def verify_generic(cumulative: int, signature: bytes) -> str:
        return str(Account.recover_message(generic(cumulative), signature=signature))

    times: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[..., T], *arguments: object) -> T:
        start = time.perf_counter()
        result = call(*arguments)
        times.setdefault(name, []).append((time.perf_counter() - start) * 1e6)
        return result

    for number in range(1, rounds + 1):
        amount = number * 10**12
        signature = timed("sign", domain.sign, key, channel_id, amount)
        signer = timed("verify", domain.recover, channel_id, amount, signature)
        timed("admit", channel.admit, 10**12, amount, signature)
        if number % SLOW_EVERY == 0:
            long_signature = timed("sign_generic", sign_generic, amount)
            other = timed("verify_generic", verify_generic, amount, long_signature)
            assert signer == other == descriptor.signer
            timed("store", ledger.payee.store_voucher, channel_id, amount, signature, amount)
    ledger.close()
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    """Run the benchmark and print it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        medians = measure(max(options.rounds, SLOW_EVERY), Path(folder))
    pair = {name: medians[f"sign{name}"] + medians[f"verify{name}"] for name in ("", "_generic")}
    if options.json:
        ratios = {
            "sign": medians["sign_generic"] / medians["sign"],
            "verify": medians["verify_generic"] / medians["verify"],
            "sign_and_verify": pair["_generic"] / pair[""],
        }
        print(json.dumps({"median_us": medians, "sign_and_verify_us": pair[""], "generic_over_ours": ratios}))
        return
    print("median microseconds    ours    eth-account    ratio")
    for name in ("sign", "verify"):
        ours, theirs = medians[name], medians[f"{name}_generic"]
        print(f"{name:<18}{ours:>9.1f}{theirs:>15.1f}{theirs / ours:>9.1f}")
    print(f"{'both':<18}{pair['']:>9.1f}{pair['_generic']:>15.1f}{pair['_generic'] / pair['']:>9.1f}")
    print(f"{'admit (verifies)':<18}{medians['admit']:>9.1f}")
    print(f"{'store, durable':<18}{medians['store']:>9.1f}")


if __name__ == "__main__":
    main()
