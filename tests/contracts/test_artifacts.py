import subprocess
import sys

import pytest

from hypercluster.contracts import artifact
from tests.contracts.conftest import ROOT

SCRIPT = ROOT / "scripts" / "compile_contracts.py"
CONTRACTS = [path.stem for path in sorted((ROOT / "contracts" / "artifacts").glob("*.json"))]


def test_the_committed_artifacts_are_what_the_sources_give() -> None:
    run = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("name", CONTRACTS)
def test_an_artifact_can_be_deployed(name: str) -> None:
    compiled = artifact(name)
    assert compiled.name == name
    assert {entry["type"] for entry in compiled.abi} >= {"constructor", "function", "event", "error"}
    assert len(compiled.bytecode) > len(compiled.deployed_bytecode)


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_has_room_to_grow(name: str) -> None:
    """Of the 24 KB that EIP-170 allows, so that what is wrong can be mended without a split."""
    assert len(bytes.fromhex(artifact(name).deployed_bytecode[2:])) < 23 * 1024


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(KeyError, match="PaymentChannels"):
        artifact("Treasury")
