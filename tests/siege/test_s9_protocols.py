"""Requests on the small protocols without end, records and gossip that nobody needs: each cost the node
a core, and honest payers waited for it. Now every one has its budget, and what strangers send is read at a pace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.siege.honest import crowd
from tests.siege.sieges import attacking

if TYPE_CHECKING:
    from tests.siege.target import Target

pytestmark = pytest.mark.slow
STRENGTH = 100


@pytest.mark.parametrize("attack", ["adverts", "recall", "records", "gossip", "gossip-forged"])
async def test_payers_are_served_while_strangers_ask_without_end(besieged: Target, attack: str) -> None:
    async with crowd(besieged, payers=2) as payers:
        async with attacking(besieged, attack, STRENGTH):
            measured = await payers.measure(3, least=8)
        assert measured.failed == {}
        assert measured.sessions >= 8
