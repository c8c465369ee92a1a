"""The sweep: every case judged in a process of its own, several at a time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypercluster.node.shards.rules import RULES
from tests.models.cases import CASES

ROOT = Path(__file__).parents[2]
SECONDS = 600  # for one case; on an idle core it takes three


@dataclass(frozen=True)
class Found:
    """What was found out about a case; `error` says how llama.cpp ended the process, or why it was refused."""

    case: str
    how: str | None = None
    difference: float | None = None
    layers: int = 0
    n_embd: int = 0
    traits: dict[str, Any] | None = None
    rewinds: bool | None = None
    branches: bool | None = None
    shares: bool | None = None
    refused: str | None = None
    error: str | None = None

    @property
    def exact(self) -> bool:
        """Whether its shards compute bit for bit what the whole model does."""
        return self.difference == 0.0


def wrong(found: Found) -> Iterator[str]:
    """What is not as the table of rules says."""
    rule = RULES[CASES[found.case].architecture]
    if rule.refused is not None:
        if found.refused is None:
            yield f"it should be refused, because {rule.refused}"
        return
    if not found.exact:
        yield found.error or found.refused or f"its logits differ by up to {found.difference}"
    for what in ("rewinds", "shares"):
        if getattr(found, what) != getattr(rule, what):
            yield f"the rule says {what} = {getattr(rule, what)}, and it is {getattr(found, what)}"
    if rule.rewinds and not found.branches:
        yield "its sessions cannot be copied, and whoever rewinds says that they can"


def judge(case: str, program: str) -> Found:
    """Judge one case by a program, in a process of its own."""
    command = [sys.executable, "-m", program, case]
    told: dict[str, Any] = {}
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return Found(case, error=f"took more than {SECONDS} s")
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            told |= json.loads(line)
    if done.returncode and "difference" not in told:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        told["error"] = last[-300:]
    return Found(case, **told)


def sweep(
    cases: Collection[str], processes: int | None = None, program: str = "tests.models.judging"
) -> Iterator[Found]:
    """Judge cases, as many at a time as there are cores; they come as they are done."""
    with ThreadPoolExecutor(processes or os.cpu_count() or 1) as pool:
        for future in as_completed([pool.submit(judge, case, program) for case in cases]):
            yield future.result()
