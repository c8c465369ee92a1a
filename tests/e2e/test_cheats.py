"""`hc-testnet demo --cheat`: cheats are found, judged on chain and slashed, and nobody else loses anything.

Of those that change weights, and of those that change outputs, one each: what is computed tells them apart, which
tests/node/replay shows for every kind, and not what follows.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hypercluster.market.money.units import HCT
from hypercluster.node.testnet.cheats import CHEATS, IN_OUTPUTS, IN_WEIGHTS
from tests.e2e.shell import Terminal, processes_that_mention

pytestmark = pytest.mark.slow

SHOWN = [each for each in CHEATS if each not in {*IN_WEIGHTS[1:], *IN_OUTPUTS[1:]}]
VERDICTS = {"equivocate": "equivocation", "lazy-verifier": "contradiction"}


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Terminal:
    """One home for all, so that the model is calibrated once."""
    return Terminal(tmp_path_factory.mktemp("cheats"))


# "immune" has eight processes and two cases, one after the other, with deadlines that a machine of two cores which runs
# other tests as well misses now and then. What it shows is tested in tests/contracts/test_cases_again.py.
@pytest.mark.parametrize("cheat", SHOWN)
def test_a_cheat_is_found_judged_and_slashed(terminal: Terminal, cheat: str) -> None:
    result = terminal.json("hc-testnet", "demo", "--cheat", cheat, "-n", "32")
    assert list(result)[-6:] == [
        "detected",
        "after_tokens",
        "case",
        "verdict",
        "slashed_wei",
        "honest_slashed_wei",
    ]
    assert result["detected"] is True
    assert result["own_case"] is None
    assert 0 < result["after_tokens"] <= 128
    assert result["verdict"] == VERDICTS.get(cheat, "guilty")
    assert (result["case"] is None) == (cheat in VERDICTS)
    assert result["slashed_wei"] == 100 * HCT
    assert result["honest_slashed_wei"] == 0
    assert result["culprit"] not in result["path_after"]
    if cheat != "lazy-verifier":
        assert result["culprit"] in result["path_before"]
    assert not processes_that_mention(str(terminal.home))


# What the others do on a link tests/node/client/test_chaining.py shows.
@pytest.mark.parametrize("cheat", ["forward-wrong", "withhold-rows"])
def test_who_cheats_on_a_link_is_passed_by_and_nobody_honest_loses(terminal: Terminal, cheat: str) -> None:
    result = terminal.json("hc-testnet", "demo", "--cheat", cheat, "-n", "16")
    assert result["identical_to_unsplit"] is True
    assert result["culprit"] in result["path_before"]
    shown = cheat == "withhold-rows"
    assert (result["left"], result["relayed"]) == (shown, not shown)
    assert (result["culprit"] in result["path_after"]) is not shown
    assert [result[f"{name}_wei"] for name in ("slashed", "honest_slashed", "honest_risked")] == [0, 0, 0]
    assert result["accusations"] == 0
    assert not processes_that_mention(str(terminal.home))


def test_nobody_is_accused_where_nobody_cheats(terminal: Terminal) -> None:
    result = terminal.json("hc-testnet", "demo", "--cheat", "none", "--steps", "200")
    assert result["audited_steps"] >= 200
    assert (result["accusations"], result["detected"], result["verdict"]) == (0, False, "none")
    assert (result["slashed_wei"], result["honest_slashed_wei"]) == (0, 0)


def test_an_unknown_cheat_is_named(tmp_path: Path) -> None:
    result = Terminal(tmp_path).run("hc-testnet", "demo", "--cheat", "bribery")
    assert result.code == 2
    assert "'bribery' is not one of" in result.err
    assert "Traceback" not in result.err
