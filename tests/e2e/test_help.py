"""--help teaches, on every command, without loading what only the work itself needs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

HEAVY = ["libp2p", "llama_cpp", "web3", "trio", "sqlalchemy"]
PROGRAMS = ["provider", "client", "verifier", "testnet", "model", "market", "gateway"]

# Asks for the help of a program and of each of its commands, and says what was imported and printed.
SCRIPT = """
import contextlib, importlib, io, json, sys
import typer
module = importlib.import_module("hypercluster.node.cli." + sys.argv[1] + ".app")
command = typer.main.get_command(module.app)
told = {}
for words in [[], *([name] for name in command.commands)]:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        try:
            command.main([*words, "--help"], prog_name="hc", standalone_mode=False)
        except SystemExit as end:
            assert not end.code
    told[" ".join(words)] = text.getvalue()
print(json.dumps({"told": told, "modules": sorted(sys.modules)}))
"""


@pytest.fixture(scope="module", params=PROGRAMS)
def helped(request: pytest.FixtureRequest) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, request.param], capture_output=True, check=True, timeout=600
    )
    return json.loads(done.stdout)


def test_help_loads_nothing_heavy(helped: Any) -> None:
    assert not set(HEAVY) & set(helped["modules"])


def test_every_command_says_what_it_does(helped: Any) -> None:
    assert len(helped["told"]) > 3
    for command, text in helped["told"].items():
        assert "Usage: hc" in text
        assert "--help" in text
        # A sentence or more between the usage and the options.
        assert len(" ".join(text.split())) > 100, command


def test_no_amount_is_told_in_wei(helped: Any) -> None:
    for command, text in helped["told"].items():
        assert not re.search(r"\d{12}", text), command
