"""Mutation testing of the contracts: every part of every `require`, and every field of what is signed.

    python scripts/mutate_contracts.py

All mutants of a file are compiled once (scripts/mutants.py). Each is then switched on under the sequences and digests
of contracts/properties, and those that live under the contract tests of its file. What was noticed once is kept, and
not tried again as long as the sources are the same. The exit code is 1 when one lives that WAIVED does not name with a
reason. Needs `npm ci` in contracts/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import compile_contracts
from invariants import CONTRACTS, DEPTH, PARTS, ROOT, SINGLE, run_forge
from mutants import Mutant, mutate, struct_fields

BUILT = ROOT / ".build" / "mutants"
CALLS = 500
TRIES = 3
"""of contract tests that do not come to an end, as when Anvil takes too long to start on a busy machine"""
TESTS = {
    "DisputeCases.sol": "test_disputes_deployment.py test_cases_open.py test_cases_draw.py test_cases_vote.py "
    "test_cases_resolve.py test_cases_*.py test_disputes_*.py",
    "DisputeDemands.sol": "test_demands.py test_disputes_*.py",
    "DisputeProofs.sol": "test_proofs_*.py",
    "Disputes.sol": "test_proofs_*.py test_cases_open.py test_demands.py",
    "HyperToken.sol": "test_hyper_token.py",
    "PaymentChannels.sol": "test_open.py test_settle.py test_close.py",
    "StakingRegistry.sol": "test_staking.py test_node_keys.py test_slashing.py",
    "VerifierList.sol": "test_verifiers.py test_cases_draw.py",
    "libraries/Blocks.sol": "test_cases_draw.py",
    "libraries/Floats.sol": "test_proofs_rows.py test_proofs_contradiction.py",
    "libraries/RowTree.sol": "test_proofs_rows.py test_demands.py",
    "libraries/Statements.sol": "test_proofs_*.py test_cases_open.py",
}
"""contract tests that look at a file of contracts/src, those that most likely notice first"""
WAIVED: dict[str, str] = {
    "without: seat < seats": "the array of seats has fifteen places, and those above the committee hold nobody",
    "<= instead of <: seat < seats": "as above",
}
"""mutants that behave like the contract, with the reason"""


def main() -> int:
    """Build the mutants, run them, print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", help="mutants of this file below contracts/src alone")
    parser.add_argument("--quick", action="store_true", help="sequences and digests alone, no contract tests")
    parser.add_argument(
        "--json", type=Path, default=BUILT / "found.json", help="file that keeps what was found"
    )
    parser.add_argument("--again", action="store_true", help="try those again that were noticed before")
    told = parser.parse_args()
    if told.file and told.file not in TESTS:
        parser.error(f"no mutants in {told.file}; there are those of {', '.join(TESTS)}")
    every: list[Mutant] = []
    found: dict[str, str] = {}
    began = time.monotonic()
    told.json.parent.mkdir(parents=True, exist_ok=True)
    for file in [told.file] if told.file else TESTS:
        mutants = build(file)
        every += mutants
        sources = (built(file) / "digest").read_text()
        kept = {} if told.again else _kept(told.json).get(sources, {})
        if mutants and (killer := killed(mutants[0], on=False, quick=True)):
            print(f"{killer} fails with {file} though no mutant is on", file=sys.stderr)
            return 2
        for mutant in mutants:
            killer = kept.get(name(mutant)) or killed(mutant, quick=told.quick)
            found[name(mutant)] = killer or ("waived" if mutant.what in WAIVED else "lives")
            print(f"{time.monotonic() - began:.0f} s  {name(mutant)}: {found[name(mutant)]}", flush=True)
            if killer:
                kept[name(mutant)] = killer
                told.json.write_text(json.dumps(_kept(told.json) | {sources: kept}, indent=1) + "\n")
    print()
    print("\n".join(table(every, found)))
    return int("lives" in found.values())


def _kept(file: Path) -> dict[str, dict[str, str]]:
    """Who noticed which mutant, by the digest of the sources."""
    told: dict[str, dict[str, str]] = json.loads(file.read_text()) if file.exists() else {}
    return told


def name(mutant: Mutant) -> str:
    """A mutant for people, and alike from run to run."""
    return f"{mutant.file}:{mutant.line} {mutant.what}"


def build(file: str) -> list[Mutant]:
    """Compile all mutants of a file below contracts/src, unless they are there; raises what the compiler says."""
    source = CONTRACTS / "src"
    sources = {
        path.relative_to(source).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(source.rglob("*.sol"))
    }
    texts, mutants = mutate(sources, file, struct_fields(source / "interfaces" / "IDisputes.sol"))
    digest = hashlib.sha256(json.dumps(texts, sort_keys=True).encode()).hexdigest()
    folder = built(file)
    stamp = folder / "digest"
    if stamp.exists() and stamp.read_text() == digest:
        return mutants
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{file}: compiling {len(mutants)} mutants ...", flush=True)
    compile_contracts.install_compiler()
    import solcx

    for contract in compile_contracts.RUNS:
        target = folder / f"{contract}.json"
        if file not in needed(f"{contract}.sol", texts):
            shutil.copy(CONTRACTS / "artifacts" / target.name, target)
            continue
        output = solcx.compile_standard(
            {
                "language": "Solidity",
                "sources": {f"src/{path}": {"content": text} for path, text in texts.items()},
                "settings": compile_contracts.settings(200)
                | {"outputSelection": {f"src/{contract}.sol": {contract: compile_contracts.OUTPUTS}}},
            },
            base_path=str(CONTRACTS),
            solc_version=compile_contracts.VERSION,
        )["contracts"][f"src/{contract}.sol"][contract]
        fields = {
            "contractName": contract,
            "abi": output["abi"],
            "bytecode": "0x" + output["evm"]["bytecode"]["object"],
            "deployedBytecode": "0x" + output["evm"]["deployedBytecode"]["object"],
        }
        target.write_text(json.dumps(fields))
    stamp.write_text(digest)
    return mutants


def built(file: str) -> Path:
    """The folder of the artifacts in which a file is mutated."""
    return BUILT / file.replace("/", "-").removesuffix(".sol")


def needed(path: str, sources: dict[str, str]) -> set[str]:
    """A source and all that it imports, below contracts/src."""
    found, left = set(), [path]
    while left:
        this = left.pop()
        if this in found:
            continue
        found.add(this)
        for name in re.findall(r'from "(\.[^"]*)"', sources[this]):
            left.append(os.path.normpath(Path(this).parent / name))
    return found


def killed(mutant: Mutant, *, quick: bool, on: bool = True) -> str:
    """What noticed a mutant; empty when nothing did, as should be when it is not switched on."""
    settings = {
        "HC_ARTIFACTS": f"../.build/mutants/{built(mutant.file).name}",
        "FOUNDRY_FUZZ_SEED": "0x1",
        "FOUNDRY_INVARIANT_RUNS": str(CALLS // DEPTH),
        "FOUNDRY_INVARIANT_DEPTH": str(DEPTH),
        "FOUNDRY_INVARIANT_SHRINK_RUN_LIMIT": "0",
    }
    if on:
        settings["HC_MUTANT"] = mutant.switch
    for contract in (*SINGLE, *PARTS):
        if contract in properties_of(mutant) and run_forge(contract, settings).returncode:
            return contract
    if quick:
        return ""
    patterns = TESTS[mutant.file].split()
    tests = [*dict.fromkeys(test.as_posix() for pattern in patterns for test in _tests(pattern))]
    options = [
        "--network",
        "ethereum:local:foundry",
        "-x",
        "-q",
        # In one word each: pytest takes a folder that stands alone for tests, and looks for its settings there.
        f"--artifacts={built(mutant.file)}",
        f"--coin={mutant.switch}",
    ]
    command = [str(Path(sys.executable).parent / "ape"), "test", *tests, *options]
    for _ in range(TRIES):
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        failed = [line for line in run.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        if bool(failed) == bool(run.returncode):
            return failed[0].split(" - ")[0].split("/")[-1] if failed else ""
    raise RuntimeError(f"The contract tests did not come to an end:\n{run.stdout}{run.stderr}")


def properties_of(mutant: Mutant) -> tuple[str, ...]:
    """Tests of contracts/properties that reach a file."""
    return {
        "PaymentChannels.sol": ("DigestsTest", "ChannelsTest"),
        "StakingRegistry.sol": ("DigestsTest", "RegistryTest"),
        "HyperToken.sol": (),
        "libraries/Blocks.sol": ("HeadersTest", "CourtTest"),
        "libraries/Statements.sol": ("DigestsTest", "CourtTest"),
    }.get(mutant.file, ("CourtTest",))


def _tests(pattern: str) -> Iterator[Path]:
    return (path.relative_to(ROOT) for path in sorted((ROOT / "tests" / "contracts").glob(pattern)))


def table(mutants: list[Mutant], found: dict[str, str]) -> Iterator[str]:
    """Lines of a table in Markdown, by file, and who lives."""
    yield "| file | mutants | noticed by properties | by contract tests | waived | live |"
    yield "|---|---|---|---|---|---|"
    for file in sorted({mutant.file for mutant in mutants}):
        count = Counter(kind(found[name(mutant)]) for mutant in mutants if mutant.file == file)
        yield "| {} | {} | {} | {} | {} | {} |".format(
            file, count.total(), *(count[each] for each in ("properties", "tests", "waived", "lives"))
        )
    yield ""
    yield from (f"{each}: {what}" for each, what in found.items() if what in ("lives", "waived"))


def kind(killer: str) -> str:
    """What sort of a check noticed it."""
    if killer in ("lives", "waived"):
        return killer
    return "properties" if killer.endswith("Test") else "tests"


if __name__ == "__main__":
    sys.exit(main())
