"""The pages' modules name nothing that is not there, and their types, told in comments, hold."""

import subprocess

import pytest

from tests.node.helpers.browsers import PACKAGES, npm_packages


@pytest.mark.slow
def test_the_types_of_the_pages_hold() -> None:
    compiler = npm_packages() / "typescript" / "bin" / "tsc"
    command = ["node", str(compiler), "--pretty", "false", "-p", str(PACKAGES / "tsconfig.json")]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    # The vendored modules are read as well, and are as they are.
    assert [line for line in told.splitlines() if "/pages/" in line.partition("(")[0]] == []
