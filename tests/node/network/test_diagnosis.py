"""What is said when nobody is found: one sentence per cause."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hypercluster.node.errors import Trouble, Unfit
from hypercluster.node.network.bootstrap import ENOUGH_TRIES, Contact
from hypercluster.node.network.diagnosis import Facts, Wanted, covers, notices, why_no_path, why_nobody
from hypercluster.node.network.dialback import Reached
from hypercluster.node.network.hello import ServedModel

HERE = "/ip4/192.0.2.7/tcp/4001/p2p/16Uiu2HAm5hPxT7s3TA2f4b4YjAPzS7yLRSgdj87ysDZ6NAXMiRuY"
JOINED = Contact(HERE, "joined")
GOOD = Facts(contacts=(JOINED,), peers=2, clock_offset=0.4, clocks=2)
WANTED = Wanted(model_id="ab" * 32, name="llama, 8 layers", layers=8)
OTHER = ServedModel("cd" * 32, "qwen3, 28 layers", 28)


def failed(trouble: Trouble) -> Facts:
    return Facts(contacts=(Contact(HERE, "failed", trouble, failures=ENOUGH_TRIES),))


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        pytest.param(failed(Trouble.REFUSED), ["4001", "refused the connection", "--bootstrap"], id="refused"),
        pytest.param(failed(Trouble.TIMEOUT), ["4001", "did not answer in time"], id="silent"),
        pytest.param(failed(Trouble.UNKNOWN_HOST), ["cannot be looked up"], id="unknown host"),
        pytest.param(failed(Trouble.WRONG_PEER), ["another node than its /p2p/"], id="wrong peer"),
        pytest.param(failed(Trouble.NO_NODE), ["not as a node of this network"], id="no node"),
        pytest.param(Facts(contacts=(Contact(HERE, "self"),)), ["this node's own"], id="itself"),
        pytest.param(Facts(contacts=(Contact(HERE),)), ["has not answered yet"], id="not yet"),
        pytest.param(Facts(mdns=True), ["local network"], id="multicast"),
        pytest.param(Facts(), ["--bootstrap"], id="no way in"),
        pytest.param(GOOD, ["joined through", "serve it yourself"], id="nobody serves it"),
        pytest.param(replace(GOOD, others=(OTHER,)), ["8 layers (abab", "28 layers (cdcd"], id="A5 others"),
        pytest.param(replace(GOOD, unfit={Unfit.EXPIRED: 2}), ["2 adverts were refused that expired"], id="expired"),
        pytest.param(replace(GOOD, unfit={Unfit.NOT_STAKED: 1}), ["1 advert was refused", "no stake"], id="no stake"),
        pytest.param(replace(GOOD, unfit={Unfit.FORGED: 3}), ["3 adverts", "wrong signature"], id="forged"),
        pytest.param(
            replace(GOOD, unfit={Unfit.EXPIRED: 2}, clock_offset=-600),
            ["600 s ahead of 2 peers", "set the clock"],
            id="own clock ahead",
        ),
        pytest.param(
            replace(GOOD, unfit={Unfit.POST_DATED: 2}, clock_offset=600), ["600 s behind"], id="own clock behind"
        ),
        pytest.param(
            replace(GOOD, unchecked=3, chain_error="The RPC at http://x limits requests."),
            ["3 adverts could not be checked on the chain. The RPC at http://x limits requests."],
            id="chain",
        ),
    ],
)  # fmt: skip
def test_kind_a_nobody_is_known_and_why(facts: Facts, words: list[str]) -> None:
    """A1, A4, A5: the cause is in the sentence, and never a bare "nobody serves layer 0"."""
    for said in (why_nobody(facts, WANTED), why_no_path(facts, WANTED)):
        assert "nobody serves layer 0" not in said
        assert not [word for word in words if word not in said], said
        assert said.endswith(".")


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        pytest.param(replace(WANTED, ranges=[(0, 3), (5, 8)]), ["nobody serves layers 3:5"], id="hole"),
        pytest.param(replace(WANTED, ranges=[(0, 4)]), ["nobody serves layers 4:8"], id="end"),
        pytest.param(replace(WANTED, ranges=[(4, 8)]), ["nobody serves layers 0:4"], id="own layers missing"),
        pytest.param(replace(WANTED, ranges=[(0, 5), (4, 8)]), ["0:5, 4:8 do not join"], id="overlap"),
        pytest.param(
            replace(WANTED, ranges=[(0, 4), (4, 8)], full=[(4, 8)]), ["layers 4:8", "no free session"], id="full"
        ),
        pytest.param(
            replace(WANTED, ranges=[(0, 8)], distrusted=[(0, 8)]), ["hc-client reputation"], id="distrusted"
        ),
        pytest.param(
            replace(WANTED, ranges=[(0, 8)], short=[(0, 8)], tokens=600, longest=512), ["512", "600", "-n"], id="length"
        ),
        pytest.param(
            replace(WANTED, ranges=[(0, 8)], narrow=[(0, 8)], top_k=99, widest=40), ["40", "99", "--top-k"], id="top_k"
        ),
        pytest.param(replace(WANTED, ranges=[(0, 8)], unlike=[(0, 8)]), ["layers 0:8", "--dtype"], id="rows"),
        pytest.param(replace(WANTED, ranges=[(0, 8)], failed=[(0, 8)]), ["failed in this completion"], id="failed"),
    ],
)  # fmt: skip
def test_kind_a_some_are_known_and_make_no_path(wanted: Wanted, words: list[str]) -> None:
    said = why_no_path(GOOD, wanted)
    assert not [word for word in words if word not in said], said
    also = why_no_path(replace(GOOD, unfit={Unfit.NOT_STAKED: 1}), wanted)
    assert "1 advert was refused" in also


def test_i6_a_running_node_says_that_it_is_alone() -> None:
    """I6: a dead address is named; that this node is alone only if it is."""
    said, alone = notices(failed(Trouble.REFUSED))
    assert HERE in said
    assert "alone" in alone
    both = replace(failed(Trouble.REFUSED), peers=1)
    assert "alone" not in "".join(notices(both))
    assert notices(Facts()) == notices(GOOD) == ()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (Facts(clock_offset=600, clocks=3), "600 s behind 3 peers"),
        (Facts(clock_offset=-45, clocks=1), "45 s ahead of 1 peer"),
        (Facts(chain_ahead=900), "900 s behind the chain's latest block"),
        (Facts(clock_offset=29, clocks=1), ""),
        (Facts(clock_offset=-29, clocks=1, chain_ahead=900), ""),
        (Facts(chain_ahead=-900), ""),
    ],
)
def test_i4_a_clock_that_is_off(facts: Facts, words: str) -> None:
    """I4: said when peers or the chain disagree by more than adverts bear; an idle chain's old block is no proof."""
    said = "".join(notices(facts))
    assert (words in said) if words else not said


def test_an_address_that_nobody_could_dial() -> None:
    announced, other = "/ip4/203.0.113.9/tcp/4001", "/ip4/192.168.1.7/tcp/4001"
    dead = Reached(announced, no=2, trouble=Trouble.TIMEOUT)
    facts = Facts(reached=(dead, Reached(other, yes=1)), announced=(announced,))
    (said,) = notices(facts)
    assert announced in said
    assert "did not answer in time" in said
    assert other not in said
    assert notices(replace(facts, announced=())) == ()
    (alone,) = notices(Facts(reached=(dead, Reached(other, no=1, trouble=Trouble.REFUSED))))
    assert announced in alone
    assert other in alone


def test_which_ranges_make_a_path() -> None:
    assert covers([(0, 4), (4, 8)], 8)
    assert covers([(4, 8), (2, 4), (0, 2), (1, 9)], 8)
    assert not covers([(0, 5), (4, 8)], 8)
    assert not covers([], 8)


def test_a1_a_dead_address_is_named_beside_what_is_missing() -> None:
    """A1's kind: peers met before still answer, the address to join through does not, and a range is missing."""
    said = why_no_path(replace(failed(Trouble.REFUSED), peers=2), replace(WANTED, ranges=[(4, 8)]))
    assert "nobody serves layers 0:4" in said
    assert "4001" in said
    assert "refused the connection" in said
