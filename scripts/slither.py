"""Slither over the contracts: exit code 1 when it finds anything that WAIVED does not name with a reason.

    python scripts/slither.py

Slither comes into an environment of its own, .build/slither, when this runs for the first time. It reads the syntax
trees of contracts/src and needs no bytecode, so that the compiler has little to do. Needs `npm ci` in contracts/.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import compile_contracts
from own_environment import program

ROOT = Path(__file__).resolve().parent.parent
KEPT = ROOT / ".build" / "slither"
PACKAGE = "slither-analyzer==0.11.6"
PERMIT = "the token calls nobody, and what follows does not rest on the permit but on the allowance"
WAIVED: dict[tuple[str, str], str] = {
    ("timestamp", ""): "windows are hours long; a proposer moves the time by seconds",
    ("incorrect-equality", ""): "phases, masks, hashes and numbers of cases are compared, not balances",
    ("naming-convention", ""): "DOMAIN_SEPARATOR is named so by EIP-2612",
    ("uninitialized-local", ""): "sums and results begin at zero, which is what an uninitialised local is",
    (
        "unused-return",
        "StakingRegistry.authorize",
    ): "tryRecover: a failed recovery is the zero address, which is no key",
    ("unused-return", "PaymentChannels.settleBatch"): "as above; the zero address is nobody's signer",
    ("unused-return", "PaymentChannels._recover"): "as above",
    ("unused-return", "Disputes._signer"): "as above; the registry knows nobody at the zero address",
    ("unused-return", "Disputes._accused"): "when stake has thawed does not matter, only that it is there",
    ("unused-return", "DisputeCases._fine"): "a fine takes what is there; nobody is paid from it",
    (
        "calls-loop",
        "",
    ): "at most fifteen seats, and at most 24 looks a draw, at the registry, which calls only the token",
    ("reentrancy-events", ""): "the registry and the token are fixed at deployment and call nobody of ours",
    (
        "reentrancy-no-eth",
        "DisputeProofs._punish",
    ): "what was taken is known after the call only; the registry calls only the token",
    ("reentrancy-benign", ""): PERMIT,
    (
        "assembly",
        "",
    ): "hashes of calldata in one copy, and bits of a word; each is compared with plain code by the tests",
    (
        "low-level-calls",
        "Blocks.hashOf",
    ): "a chain without EIP-2935 has no contract there, and the answer's length is checked",
    ("incorrect-shift", "VerifierList._next"): "shl(n, 1) is the n-th bit, in the order of arguments of Yul",
    ("divide-before-multiply", "VerifierList._count"): "the divisions make masks of constants",
    (
        "divide-before-multiply",
        "DisputeCases._compensate",
    ): "a share is whole wei before it is paid to each; what is lost is burned",
}
"""reasons by check and by the function or contract it is about; "" stands for all of them"""


def main() -> int:
    """Print what is not waived, and how often each waiver was used."""
    trees()
    found = list(findings())
    left = [(check, where, text) for check, where, text in found if reason(check, where) is None]
    for check, where, text in left:
        print(f"{check} in {where}:\n  {text}")
    print(f"{len(found)} findings, {len(found) - len(left)} waived with a reason, {len(left)} left")
    return int(bool(left))


def reason(check: str, where: str) -> str | None:
    """Why a finding is none."""
    return WAIVED.get((check, where), WAIVED.get((check, "")))


def trees() -> None:
    """Write the syntax trees as Forge leaves them in its build-info."""
    compile_contracts.install_compiler()
    import solcx

    sources = {
        path.relative_to(compile_contracts.CONTRACTS).as_posix(): {
            "content": path.read_text(encoding="utf-8")
        }
        for path in sorted(compile_contracts.SOURCES.rglob("*.sol"))
    }
    settings = compile_contracts.settings(200) | {
        "outputSelection": {"*": {"": ["ast"], "*": ["abi", "devdoc"]}}
    }
    given = {"language": "Solidity", "sources": sources, "settings": settings}
    output = solcx.compile_standard(
        given, base_path=str(compile_contracts.CONTRACTS), solc_version=compile_contracts.VERSION
    )
    nothing = {"object": "", "opcodes": "", "sourceMap": "", "linkReferences": {}}
    for contracts in output["contracts"].values():
        for contract in contracts.values():
            contract["evm"] = {"bytecode": nothing, "deployedBytecode": nothing, "methodIdentifiers": {}}
    folder = KEPT / "out" / "build-info"
    folder.mkdir(parents=True, exist_ok=True)
    for name in sources:
        copy = KEPT / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(sources[name]["content"], encoding="utf-8")
    modules = KEPT / "node_modules"
    if not modules.exists():
        modules.symlink_to(compile_contracts.CONTRACTS / "node_modules", target_is_directory=True)
    (KEPT / "foundry.toml").write_text('[profile.default]\nsrc = "src"\n', encoding="utf-8")
    information = {
        "_format": "hh-sol-build-info-1",
        "id": "trees",
        "solcVersion": compile_contracts.VERSION,
        "solcLongVersion": compile_contracts.VERSION,
        "input": given,
        "output": output,
    }
    (folder / "trees.json").write_text(json.dumps(information), encoding="utf-8")


def findings() -> Iterator[tuple[str, str, str]]:
    """Check, function or contract, and description of each finding of Slither in contracts/src."""
    report = KEPT / "report.json"
    report.unlink(missing_ok=True)
    forge = next((compile_contracts.CONTRACTS / "node_modules" / "@foundry-rs").glob("forge-*/bin"))
    run = subprocess.run(
        [
            str(program("slither", PACKAGE, KEPT)),
            ".",
            "--ignore-compile",
            "--foundry-out-directory",
            "out",
            "--filter-paths",
            "node_modules",
            "--json",
            str(report),
        ],
        cwd=KEPT,
        env=os.environ | {"PATH": f"{forge}{os.pathsep}{os.environ['PATH']}", "HOME": str(KEPT)},
        capture_output=True,
        text=True,
    )
    if not report.exists():
        raise SystemExit(f"Slither ended without a report:\n{run.stdout[-3000:]}{run.stderr[-3000:]}")
    detectors: list[dict[str, Any]] = json.loads(report.read_text())["results"].get("detectors", [])
    for found in detectors:
        yield found["check"], where(found["elements"]), found["description"].strip().splitlines()[0]


def where(elements: list[dict[str, Any]]) -> str:
    """The contract and the function that a finding is about."""
    for element in elements[:1]:
        parent = element.get("type_specific_fields", {}).get("parent", {})
        if element["type"] in ("function", "variable") and parent.get("name"):
            return f"{parent['name']}.{element['name']}"
        if element["type"] == "node":
            function = parent.get("name", "")
            owner = parent.get("type_specific_fields", {}).get("parent", {}).get("name", "")
            return f"{owner}.{function}"
        return str(element["name"])
    return ""


if __name__ == "__main__":
    sys.exit(main())
