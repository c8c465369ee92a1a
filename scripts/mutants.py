"""Mutants of the contracts: all in one compilation, of which each is switched on by a coin at its own address.

Every part of every `require` and of every conjunction that is returned can be left out, its comparisons can be moved by
one, and every field of what is hashed can be replaced by zero. A mutant whose address (`SWITCH` + number) holds no coin
behaves like the contract that it was made of, so that one compilation serves all runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

SWITCH = 0xDEAD << 144
"""address of mutant 0"""
LIBRARY = f"""// SPDX-License-Identifier: MIT
pragma solidity 0.8.37;

library Mutants {{
    function on(uint256 number) internal pure returns (bool) {{
        function(uint256) view returns (bool) told = _on;
        function(uint256) pure returns (bool) same;
        assembly {{ same := told }}
        return same(number);
    }}

    function _on(uint256 number) private view returns (bool) {{
        return address(uint160({SWITCH} + number)).balance != 0;
    }}

    /// Where a word is set to zero behind `free`: at the field that is dropped, or far from all of them.
    function dropped(uint256 first, uint256 fields, uint256 skipped) internal pure returns (uint256) {{
        for (uint256 i; i < fields; ++i) if (on(first + i)) return (skipped + i) * 32;
        return 0x800;
    }}
}}
"""
BOUNDARIES = {">=": ">", "<=": "<", ">": ">=", "<": "<="}

Fields = tuple[tuple[str, str], ...]
HASHED: tuple[tuple[str, str, Fields], ...] = (
    (
        "PaymentChannels.sol",
        "abi.encode(VOUCHER_TYPEHASH, {})",
        (("channelId", "bytes32"), ("cumulative", "uint96")),
    ),
    (
        "StakingRegistry.sol",
        "abi.encode(AUTHORIZE_TYPEHASH, {})",
        (("operator", "address"), ("nodeKey", "address"), ("deadline", "uint256")),
    ),
    (
        "PaymentChannels.sol",
        "abi.encode({}, address(this), block.chainid)",
        (("payer", "address"), ("payee", "address"), ("signer", "address"), ("salt", "bytes32")),
    ),
    (
        "DisputeCases.sol",
        "abi.encode({})",
        (
            ("caseId", "uint256"),
            ("msg.sender", "address"),
            ("vote", "uint8"),
            ("fingerprint", "bytes32"),
            ("salt", "bytes32"),
        ),
    ),
    (
        "libraries/Statements.sol",
        "abi.encode({})",
        (("node", "address"), ("stageHash", "bytes32"), ("seq", "uint32")),
    ),
    ("DisputeCases.sol", "abi.encode({})", (("receipt", "bytes32"), ("msg.sender", "address"))),
    ("DisputeProofs.sol", "abi.encode({})", (("node", "address"), ("inRoot", "bytes32"))),
    (
        "DisputeDemands.sol",
        "abi.encode({})",
        (
            ("node", "address"),
            ("stageHash", "bytes32"),
            ("receipt.seq", "uint32"),
            ("output", "bool"),
            ("row", "uint32"),
        ),
    ),
)
"""what is hashed field by field: file, call, and its arguments with their types"""
COPIED: tuple[tuple[str, str, int], ...] = (
    ("libraries/Statements.sol", "Stage", 1),
    ("libraries/Statements.sol", "Receipt", 2),
    ("libraries/Statements.sol", "Verdict", 1),
)
"""structs that are hashed as they lie in calldata, behind so many words"""
DECIDING = ("guilty", "innocent", "unserved")
"""votes of which one fewer could be enough"""


@dataclass(frozen=True)
class Mutant:
    """One change: its number, the file and what stood there."""

    number: int
    file: str
    line: int
    what: str

    @property
    def switch(self) -> str:
        """The address whose coin turns it on."""
        return f"0x{SWITCH + self.number:040x}"


class Stale(Exception):
    """The sources do not hold what should be mutated."""


def mutate(
    sources: dict[str, str], only: str, structs: dict[str, list[str]]
) -> tuple[dict[str, str], list[Mutant]]:
    """Put all mutants of one file into sources, by path below src.

    Args:
        sources: text by path.
        only: the file to mutate.
        structs: names of the fields of what is hashed as it lies in calldata.

    Raises:
        Stale: something that is signed is not hashed where this module knows it.
    """
    mutants: list[Mutant] = []
    changed = dict(sources)
    text = _conditions(only, _hashes(only, sources[only], structs, mutants), mutants)
    depth = "../" * only.count("/") or "./"
    head, pragma, rest = text.partition("pragma solidity 0.8.37;\n")
    changed[only] = f'{head}{pragma}import {{Mutants}} from "{depth}Mutants.sol";{rest}'
    changed["Mutants.sol"] = LIBRARY
    return changed, mutants


def _add(mutants: list[Mutant], path: str, text: str, at: int, what: str) -> int:
    number = len(mutants)
    mutants.append(Mutant(number, path, text.count("\n", 0, at) + 1, what))
    return number


def _hashes(path: str, text: str, structs: dict[str, list[str]], mutants: list[Mutant]) -> str:
    for file, call, fields in HASHED:
        if file != path:
            continue
        found = call.format(", ".join(name for name, _ in fields))
        if found not in text:
            raise Stale(f"{path} does not hash {found} any more: change HASHED in scripts/mutants.py.")
        at = text.index(found)
        kept = [
            f"Mutants.on({_add(mutants, path, text, at, f'{found}: {name} is not hashed')}) ? {kind}(0) : {name}"
            if kind != "bool"
            else f"!Mutants.on({_add(mutants, path, text, at, f'{found}: {name} is not hashed')}) && {name}"
            for name, kind in fields
        ]
        text = text.replace(found, call.format(", ".join(kept)))
    for file, struct, skipped in COPIED:
        if file != path:
            continue
        begin = re.search(rf"function hash\(IDisputes\.{struct} calldata.*?assembly", text, re.S)
        if begin is None:
            raise Stale(f"{path} does not hash {struct} any more: change COPIED in scripts/mutants.py.")
        names = structs[struct]
        numbers = [
            _add(mutants, path, text, begin.start(), f"{struct}.{name} is not hashed") for name in names
        ]
        if skipped == 2:
            numbers.append(_add(mutants, path, text, begin.start(), f"{struct}.stage is not hashed"))
        at = begin.end() - len("assembly")
        head = f"uint256 dropped = Mutants.dropped({numbers[0]}, {len(names)}, {skipped});\n"
        if skipped == 2:
            head += f"if (Mutants.on({numbers[-1]})) dropped = 0x20;\n"
        end = text.index("digest := keccak256", at)
        text = text[:at] + head + text[at:end] + "mstore(add(free, dropped), 0)\n" + text[end:]
    return text


def _conditions(path: str, text: str, mutants: list[Mutant]) -> str:
    out: list[str] = []
    at = 0
    for match in re.finditer(r"\brequire\(|\breturn (?=[^;{}]*&&)|\bif \((?=_count\(p\.)", text):
        begin = match.end()
        if begin <= at:
            continue
        if match[0].startswith("return"):
            end = text.index(";", begin)
            condition, rest = text[begin:end], ""
        else:
            end = _close(text, begin)
            parts = _split(text[begin:end], ",")
            condition, rest = parts[0], text[begin + len(parts[0]) : end]
        out += [text[at:begin], _mutated(path, text, begin, condition, mutants), rest]
        at = end
    return "".join([*out, text[at:]])


def _mutated(path: str, text: str, begin: int, condition: str, mutants: list[Mutant]) -> str:
    clauses = _split(condition, "&&")
    made = []
    for clause in clauses:
        plain = " ".join(clause.split())
        if voted := re.match(r"_count\(p\.(\w+)\) \* 3", plain):
            number = _add(mutants, path, text, begin, f"one vote of {voted[1]} fewer decides")
            made.append(f"(_count(p.{voted[1]}) + (Mutants.on({number}) ? 1 : 0)){plain[voted.end() - 4 :]}")
            continue
        dropped = _add(mutants, path, text, begin, f"without: {plain}")
        changed = plain
        sides = re.fullmatch(r"([^|&?]*?) (>=|<=|<|>) ([^|&?<>]*)", plain)
        if sides and _balanced(sides[1]) and _balanced(sides[3]):
            left, sign, right = sides.groups()
            moved = _add(mutants, path, text, begin, f"{BOUNDARIES[sign]} instead of {sign}: {plain}")
            changed = f"(Mutants.on({moved}) ? {left} {BOUNDARIES[sign]} {right} : {plain})"
        made.append(f"(Mutants.on({dropped}) || ({changed}))")
    return " && ".join(made)


def _close(text: str, at: int) -> int:
    """Where the bracket closes that was opened just before `at`."""
    depth = 1
    while True:
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
        at += 1


def _balanced(text: str) -> bool:
    return text.count("(") == text.count(")")


def _split(text: str, sign: str) -> list[str]:
    """Split at a sign that stands in no brackets."""
    parts, depth, last = [], 0, 0
    for at, letter in enumerate(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
        if depth == 0 and text.startswith(sign, at):
            parts.append(text[last:at])
            last = at + len(sign)
    return [*parts, text[last:]]


def struct_fields(interface: Path) -> dict[str, list[str]]:
    """Names of the fields of every struct of a Solidity file."""
    text = interface.read_text(encoding="utf-8")
    return {
        match[1]: re.findall(r"(\w+);", match[2])
        for match in re.finditer(r"struct (\w+) \{(.*?)\}", text, re.S)
    }
