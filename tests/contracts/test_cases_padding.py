"""C12: what somebody padded the list of verifiers with costs a draw more calls, and no call more than a million gas.

In committees of three, five (the default) and seven.
"""

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from tests.contracts.conftest import events
from tests.contracts.court import Court

PLACES = 10_000

BOUND = 1_000_000


def mapped(key: int, slot: int) -> int:
    """Where a mapping at `slot` keeps what belongs to a key."""
    return int.from_bytes(keccak(encode(["uint256", "uint256"], [key, slot])))


def pad(court: Court, keys: int) -> None:
    """As if the list had 10,000 places, of which so many more are taken by keys that are not eligible.

    Places, their bits and their entries are written at the slots that the compiler gave them."""
    bits: dict[int, int] = {0: (1 << len(court.bench)) - 1}
    first = int.from_bytes(keccak(encode(["uint256"], [0])))
    court.put(0, PLACES)
    for number in range(keys):
        place = len(court.bench) + number * (PLACES - len(court.bench)) // max(keys, 1)
        address = 0xBAD000 + number
        bits[place >> 8] = bits.get(place >> 8, 0) | 1 << (place & 255)
        court.put(first + place, address)
        court.put(mapped(address, 3), (place + 1) << 224 | 1 << 160 | address)
    for index, bit in bits.items():
        court.put(mapped(index, 2), bit)


def drawn(court: Court, case: int) -> list[int]:
    """Gas of each call of a draw."""
    gas = []
    while True:
        call = court.drawing(case)
        gas.append(call.gas_used)
        if call.return_value:
            members = call.return_value
            assert len({*members}) == court.terms.seats
            assert {*members} <= {key.address for key in court.bench}
            return gas
        assert events(call)[-1][0] == "DrawGoesOn"


def test_c12_vacant_places_cost_next_to_nothing(sized: Court) -> None:
    court = sized
    pad(court, 0)
    assert court.cases.verifierCount() == PLACES
    gas = drawn(court, court.open())
    assert max(gas) < BOUND, gas


def test_c12_keys_without_stake_cost_calls_and_only_once(sized: Court) -> None:
    court = sized
    pad(court, 40)
    gas = drawn(court, court.open())
    assert max(gas) < BOUND, gas
    left = sum(court.cases.verifierAt(int(i)) != "0x" + 40 * "0" for i in range(len(court.bench)))
    assert left == len(court.bench)  # nobody else lost a place
