"""What a rumour must show before anybody believes a word of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hypercluster.market.trust.receipt import Finding
from hypercluster.node.errors import ForgedRumour, WireError
from hypercluster.node.evidence.rumour import claim_of
from hypercluster.node.identity import address_of_peer, peer_of_key
from hypercluster.node.wire.codec import decode, encode
from hypercluster.node.wire.rumours import Rumour
from tests.node.helpers.offers import OPERATOR, new_key
from tests.node.helpers.rumours import DOMAIN, WITNESS, failed, twice

KEY, VERIFIER = new_key(), new_key()


def test_two_receipts_for_one_step_prove_themselves() -> None:
    rumour = twice(KEY)
    assert decode(encode(rumour)) == rumour
    claim = claim_of(rumour, DOMAIN)
    assert claim.proven
    assert (claim.peer, claim.operator) == (peer_of_key(KEY), OPERATOR)
    assert claim.node == address_of_peer(claim.peer)


def test_a_failing_verdict_over_a_signed_receipt_is_a_witness_s_word() -> None:
    rumour = failed(KEY, VERIFIER)
    assert decode(encode(rumour)) == rumour
    claim = claim_of(rumour, DOMAIN)
    assert not claim.proven
    assert (claim.witness, claim.verifier) == (WITNESS, peer_of_key(VERIFIER))
    assert claim.verifier_node == address_of_peer(claim.verifier)


@pytest.mark.parametrize(
    "rumour",
    [
        pytest.param(twice(KEY, out_root=b"o" * 32), id="the same receipt twice"),
        pytest.param(twice(KEY, seq=1), id="two receipts of two steps"),
        pytest.param(replace(twice(KEY), peer=peer_of_key(new_key())), id="signed by somebody else"),
        pytest.param(replace(twice(KEY), session=b"z" * 16), id="of another session"),
        pytest.param(failed(KEY, VERIFIER, in_root=b"z" * 32), id="a verdict over other inputs"),
        pytest.param(failed(KEY, VERIFIER, out_root=b"z" * 32), id="a verdict over other outputs"),
        pytest.param(failed(KEY, VERIFIER, tokens=4), id="a verdict over other rows"),
        pytest.param(failed(KEY, VERIFIER, seq=1), id="of a later step, whose inputs are not all there is"),
        pytest.param(failed(KEY, VERIFIER, position=3), id="of a step in the middle"),
        pytest.param(failed(KEY, VERIFIER, finding=Finding.GREY), id="a verdict that punishes nobody"),
        pytest.param(failed(KEY, VERIFIER, finding=Finding.PASS), id="a verdict that passed"),
        pytest.param(failed(KEY, VERIFIER, witness=OPERATOR), id="an operator against itself"),
        pytest.param(failed(KEY, KEY), id="a node against itself"),
        pytest.param(replace(failed(KEY, VERIFIER), layer_stop=3), id="a verdict over other layers"),
    ],
)
def test_a_rumour_that_shows_nothing_is_a_forgery(rumour: Rumour) -> None:
    with pytest.raises(ForgedRumour):
        claim_of(rumour, DOMAIN)


def test_a_rumour_shows_one_thing_or_the_other() -> None:
    said: dict[str, Any] = {"testimony": failed(KEY, VERIFIER).testimony}
    with pytest.raises(WireError):
        replace(twice(KEY), **said)
    with pytest.raises(WireError):
        replace(twice(KEY), other=None)
