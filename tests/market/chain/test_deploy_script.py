"""scripts/deploy.py as a user runs it."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import Chain, Deployment, DisputeTerms
from hypercluster.market.money.keystore import create_key
from hypercluster.market.money.units import HCT

ROOT = Path(__file__).parents[3]


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/deploy.py", *map(str, arguments)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HC_")}
    return subprocess.run(command, cwd=ROOT, env=clean | environment, capture_output=True, text=True)


def test_it_deploys_from_a_key_file(tmp_path: Path, anvil: str, accounts: list[LocalAccount]) -> None:
    key, password, output = tmp_path / "key.json", tmp_path / "password", tmp_path / "deployment.json"
    create_key(key, "sesame", secret=bytes(accounts[8].key))
    password.write_text("sesame\nand a second line\n")
    basics = "--rpc-url", anvil, "--key-file", key, "--output", output, "--min-stake", "40.5", "--grace", 60
    disputes = "--seats", 7, "--fault", "40", "--bond", "1.5", "--evidence-window", 5000
    done = run(*basics, *disputes, HC_PASSWORD_FILE=str(password))
    assert done.returncode == 0, done.stderr
    chain = Chain(anvil, Deployment.load(output))
    assert chain.staking.minimum == 81 * HCT // 2
    assert chain.channels.grace_seconds == 60
    assert chain.token.balance(accounts[8].address) == 10**9 * HCT
    assert chain.staking.slashers() == [
        chain.deployment.cases,
        chain.deployment.proofs,
        chain.deployment.demands,
    ]
    assert chain.disputes.terms == DisputeTerms(
        seats=7, fault=40 * HCT, bond=3 * HCT // 2, evidence_window=5000
    )
    short = run(*basics, *disputes, "--unbonding", 60, HC_PASSWORD_FILE=str(password))
    assert (short.returncode, short.stderr.count("\n")) == (1, 1)
    assert short.stderr.startswith("error: Stake that thaws in 60 s")
    password.write_text("wrong")
    refused = run(*basics, *disputes, HC_PASSWORD_FILE=str(password))
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: The password for the key file")


def test_it_says_what_is_missing(tmp_path: Path, anvil: str) -> None:
    output = tmp_path / "deployment.json"
    nobody = "0x" + "5e" * 32
    tries: list[tuple[str, dict[str, str], str]] = [
        (anvil, {}, "--key-file"),
        (anvil, {"HC_DEPLOY_KEY": "0x12"}, "not a private key"),
        (anvil, {"HC_DEPLOY_KEY": nobody}, "holds 0 coin"),
        ("http://127.0.0.1:1", {"HC_DEPLOY_KEY": nobody}, "does not answer"),
    ]
    with ThreadPoolExecutor() as together:
        refusals = together.map(lambda each: run("--rpc-url", each[0], "--output", output, **each[1]), tries)
    for refusal, (_, _, words) in zip(refusals, tries, strict=True):
        assert refusal.returncode == 1
        assert words in refusal.stderr
        assert refusal.stderr.count("\n") == 1
    assert not output.exists()
