import subprocess
import sys

import pytest
from conftest import ROOT

from hypercluster.contracts import artifact

SCRIPT = ROOT / "scripts" / "compile_contracts.py"


def test_the_committed_artifacts_are_what_the_sources_give():
    run = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("name", ["HyperToken", "PaymentChannels", "StakingRegistry", "DisputeManager"])
def test_an_artifact_can_be_deployed(name):
    compiled = artifact(name)
    assert compiled.name == name
    assert {entry["type"] for entry in compiled.abi} >= {"constructor", "function", "event", "error"}
    assert len(bytes.fromhex(compiled.deployed_bytecode[2:])) <= 24_576  # EIP-170
    assert len(compiled.bytecode) > len(compiled.deployed_bytecode)


def test_an_unknown_name_is_named():
    with pytest.raises(KeyError, match="PaymentChannels"):
        artifact("Treasury")
