"""Gas of whole transactions: cold storage, sent by an externally owned account, intrinsic gas included.

Salts are small counters, deposits and vouchers some 10^18 wei. A random salt costs 372 gas more wherever the
descriptor of a channel travels: 16 gas for each byte that is not zero, instead of 4.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.contracts.court import Court, tree_path, tree_root
from tests.contracts.kinds import Account, Accounts, Call, Contract, Descriptor, Receipt, Signature
from tests.contracts.signing import compact, sign_consent, sign_voucher, words

SNAPSHOT = Path(__file__).resolve().parents[2] / "contracts" / "gas-snapshot.json"
HCT = 10**18
TOLERANCE = 0.01


def test_gas_is_that_of_the_snapshot(request: pytest.FixtureRequest, measured: dict[str, Any]) -> None:
    if request.config.getoption("--update-gas"):
        SNAPSHOT.write_text(json.dumps(measured, indent=1) + "\n")
    committed = json.loads(SNAPSHOT.read_text())
    assert {name: row["scenario"] for name, row in committed.items()} == {
        name: row["scenario"] for name, row in measured.items()
    }
    for name, row in measured.items():
        assert row["gas"] == pytest.approx(committed[name]["gas"], rel=TOLERANCE), name


def test_gas_keeps_its_aims(measured: dict[str, Any]) -> None:
    aims = {
        "open": 72_000,
        "settle": 52_000,
        "settleBatch of ten": 185_000,
        "close": 60_000,
        "requestClose": 29_500,
        "proveEquivocation": 115_000,
        "commit": 48_000,
        "reveal": 36_000,
    }
    assert {name: measured[name]["gas"] for name in aims if measured[name]["gas"] > aims[name]} == {}


@pytest.fixture(scope="module")
def measured(
    token: Contract,
    channels: Contract,
    registry: Contract,
    court: Court,
    deployer: Account,
    payer: Account,
    payee: Account,
    signer: Account,
    accounts: Accounts,
) -> dict[str, Any]:
    """Run every scenario once. Returns {name: {"gas", "scenario"}}."""
    figures = {}

    def note(name: str, receipt: Receipt, scenario: str, share: int = 1) -> None:
        figures[name] = {"gas": receipt.gas_used // share, "scenario": scenario}

    def salt(number: int) -> bytes:
        return number.to_bytes(32, "big")

    def channel(number: int) -> Descriptor:
        return (payer.address, payee.address, signer.address, salt(number))

    def voucher(number: int, cumulative: int) -> Signature:
        return sign_voucher(
            signer.private_key, channels.address, channels.channelIdOf(channel(number)), cumulative
        )

    def open_channel(number: int, sender: Account = payer) -> Any:
        return channels.open(payee, signer, salt(number), 10 * HCT, sender=sender)

    note("open, the first of all", open_channel(1), "the contract held no tokens; unlimited allowance")
    note("open", open_channel(2), "the contract holds tokens; unlimited allowance")
    token.approve(channels, 1000 * HCT, sender=payer)
    note(
        "open, exact allowance counted down",
        open_channel(3),
        "the contract holds tokens; a limited allowance that is not used up",
    )
    token.approve(channels, 2**256 - 1, sender=payer)
    openings = [(payee.address, signer.address, salt(number), 10 * HCT) for number in range(4, 12)]
    note(
        "openMany of eight, per channel",
        channels.openMany(openings, sender=payer),
        "as open; one transfer in",
        share=8,
    )
    note("topUp", channels.topUp(channel(2), HCT, sender=payer), "unlimited allowance")

    def settle(number: int, wei: int) -> Any:
        return channels.settle(channel(number), wei, compact(voucher(number, wei)), sender=payee)

    note(
        "settle, the payee's first tokens", settle(1, HCT + 1), "the payee held no tokens; compact signature"
    )
    note(
        "settle",
        settle(2, HCT + 1),
        "the payee holds tokens; compact signature; first settlement of the channel",
    )
    note("settle again", settle(2, 2 * HCT + 1), "the payee holds tokens; later settlement of the channel")
    claims = [
        (payer.address, signer.address, salt(number), 3 * HCT + 1, *words(voucher(number, 3 * HCT + 1)))
        for number in range(2, 12)
    ]
    note(
        "settleBatch of ten",
        channels.settleBatch(payee, claims, sender=payee),
        "ten channels of one payee that holds tokens",
    )
    wei = 4 * HCT + 1
    note(
        "close",
        channels.close(channel(2), wei, compact(voucher(2, wei)), sender=payee),
        "last voucher settled, rest refunded; both sides hold tokens",
    )
    note("close without a voucher", channels.close(channel(3), 0, b"", sender=payee), "rest refunded")
    note("requestClose", channels.requestClose(channel(4), sender=payer), "salt is a counter")
    channels.provider.set_timestamp(channels.chain_manager.pending_timestamp + 3700)
    note(
        "withdraw", channels.withdraw(channel(4), sender=payer), "rest refunded to a payer that holds tokens"
    )

    token.approve(registry, 2**256 - 1, sender=payer)
    note(
        "stake, the first of an operator",
        registry.stake(100 * HCT, sender=payer),
        "the registry held no tokens; unlimited allowance",
    )
    note("stake", registry.stake(100 * HCT, sender=payer), "adds to a stake; unlimited allowance")
    node_key = accounts[5]
    deadline = 2_000_000_000
    consent = sign_consent(node_key.private_key, registry.address, payer.address, node_key.address, deadline)
    note(
        "authorize",
        registry.authorize(node_key, 100 * HCT, deadline, compact(consent), sender=payer),
        "compact signature",
    )
    dispute(court, note)
    return figures


def dispute(court: Court, note: Call) -> None:
    """The scenarios of disputes: committees of three, hashes and signatures without zeros."""
    contract, accuser = court.cases, court.accuser
    for name, scenario in (
        ("proveEquivocation, the reporter's first reward", "the reporter never had a reward"),
        ("proveEquivocation", "the reporter has a reward already"),
    ):
        stage, first = court.stage(), court.receipt()
        receipts = [first, first | {"outRoot": b"x" * 32}]
        signed = [(tuple(each.values()), court.sign(stage, each)) for each in receipts]
        proof = court.stage_hash(stage), *signed[0], *signed[1]
        note(name, court.proofs.proveEquivocation(*proof, sender=accuser), scenario)
    stage, receipt = court.stage(), court.receipt()
    arguments = tuple(stage.values()), tuple(receipt.values()), court.sign(stage, receipt)
    opened = contract.openCase(*arguments, sender=accuser)
    note("openCase, the first of all", opened, "the contract held no tokens; unlimited allowance")
    opened = contract.openCase(*court.signed(), sender=accuser)
    note("openCase", opened, "the contract holds tokens; unlimited allowance")
    case = opened.return_value
    drawn = court.drawing(case)
    note("draw", drawn, "six eligible verifiers on the list")
    members = [next(each for each in court.bench if each.address == member) for member in drawn.return_value]
    commits = court.commit(case, members, 2, 2, 2, fingerprint=b"f" * 32)
    note("commit", commits[1], "others have committed, and others will")
    note("commit, the last", commits[2], "revealing begins")
    reveals = court.reveal(case, members, 2, 2, 2, fingerprint=b"f" * 32)
    note("reveal", max(reveals, key=lambda each: each.gas_used), "the dearest of three votes")
    note("resolve, guilty", court.resolve(case, members), "three members voted so, each for the first time")
    case = contract.openCase(*court.signed(), sender=accuser).return_value
    _, resolved = court.judge(case, 1, 1, 1)
    note("resolve, innocent", resolved, "three members voted so, each for the first time")
    rows = [b"r" * 4096, b"s" * 4096]
    said = court.signed(outputs=2, outRoot=tree_root(rows))
    demanded = court.demands.demand(*said, True, 0, sender=accuser)
    note("demand, the first of all", demanded, "the contract held no tokens; unlimited allowance")
    demanded = court.demands.demand(*said, True, 1, sender=accuser)
    note("demand", demanded, "the contract holds tokens; unlimited allowance")
    served = court.demands.serve(demanded.return_value, rows[1], tree_path(rows, 1), sender=court.node)
    note("serve", served, "4096 bytes without zeros, one of two rows; the operator held no tokens")
    key, _ = court.join()
    note("enlist", contract.enlist(sender=key), "a new place of the list")
