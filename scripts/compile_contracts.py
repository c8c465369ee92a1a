"""Compile contracts/src into the committed contracts/artifacts.

    python scripts/compile_contracts.py            # write the artifacts
    python scripts/compile_contracts.py --check    # exit 1 when they are not what the sources give

Needs `npm ci` in contracts/. py-solc-x drives the compiler; contracts/solc.js stands in for the native one.
The output depends on nothing but the sources, the locked npm packages and the settings below.
"""

import argparse
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

CONTRACTS = Path(__file__).resolve().parent.parent / "contracts"
SOURCES = CONTRACTS / "src"
ARTIFACTS = CONTRACTS / "artifacts"
COMPILERS = CONTRACTS / ".solc"
VERSION = "0.8.37"
# Every call matters more than the one deployment. The largest contract is kept below 23 KB, of the 24 that EIP-170
# allows, so that there is room to mend it.
RUNS = {
    "HyperToken": 1_000_000,
    "PaymentChannels": 1_000_000,
    "StakingRegistry": 1_000_000,
    "DisputeCases": 700,
    "DisputeProofs": 1_000_000,
    "DisputeDemands": 1_000_000,
}
OUTPUTS = ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]


def settings(runs: int) -> dict[str, Any]:
    """Compiler settings for contracts whose code is optimised for so many calls."""
    return {
        "optimizer": {"enabled": True, "runs": runs},
        "viaIR": True,
        "evmVersion": "cancun",
        "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    }


def install_compiler() -> None:
    """Put the stand-in where py-solc-x looks for compilers: a folder of ours, not the user's home."""
    os.environ["SOLCX_BINARY_PATH"] = str(COMPILERS)
    COMPILERS.mkdir(exist_ok=True)
    link = COMPILERS / f"solc-v{VERSION}"
    if not link.exists():
        link.unlink(missing_ok=True)
        link.symlink_to("../solc.js")


def compile_contracts() -> dict[str, dict[str, Any]]:
    """Compile all sources. Returns the artifacts by contract name; raises solcx.exceptions.SolcError."""
    install_compiler()
    import solcx

    paths = sorted(SOURCES.rglob("*.sol"))
    sources = {path.relative_to(CONTRACTS).as_posix(): path.read_text(encoding="utf-8") for path in paths}
    compiled: dict[str, Any] = {}
    messages: dict[str, None] = {}
    for runs in sorted(set(RUNS.values())):
        wanted = {f"src/{name}.sol": {name: OUTPUTS} for name in RUNS if RUNS[name] == runs}
        output = solcx.compile_standard(
            {
                "language": "Solidity",
                "sources": {name: {"content": text} for name, text in sources.items()},
                "settings": settings(runs) | {"outputSelection": wanted},
            },
            base_path=str(CONTRACTS),
            solc_version=VERSION,
        )
        messages |= dict.fromkeys(message["formattedMessage"] for message in output.get("errors", []))
        compiled |= {
            name: output["contracts"][f"src/{name}.sol"][name] for name in RUNS if RUNS[name] == runs
        }
    for message in messages:
        print(message, file=sys.stderr)
    digest = hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()
    artifacts = {}
    for name, runs in RUNS.items():
        contract = compiled[name]
        artifacts[name] = {
            "contractName": name,
            "compiler": {"version": VERSION, "settings": settings(runs)},
            "sourcesDigest": f"sha256:{digest}",
            "abi": contract["abi"],
            "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
            "deployedBytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
        }
    return artifacts


def main() -> int:
    """Write or check the artifacts."""
    parser = argparse.ArgumentParser(description="Compile contracts/src into contracts/artifacts.")
    parser.add_argument(
        "--check", action="store_true", help="compare with the committed artifacts, write nothing"
    )
    check = parser.parse_args().check
    ARTIFACTS.mkdir(exist_ok=True)
    stale = []
    for name, fields in compile_contracts().items():
        path = ARTIFACTS / f"{name}.json"
        text = json.dumps(fields, indent=1) + "\n"
        size = len(fields["deployedBytecode"]) // 2 - 1
        if check and (not path.is_file() or path.read_text(encoding="utf-8") != text):
            stale.append(name)
        if not check:
            path.write_text(text, encoding="utf-8")
            print(f"{path.relative_to(CONTRACTS.parent)}: {size} bytes on chain")
    if stale:
        print(f"artifacts are stale: {', '.join(stale)}; run scripts/compile_contracts.py", file=sys.stderr)
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
