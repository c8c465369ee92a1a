"""What an accuser signs when it brings the evidence of its case to a member of the committee (EIP-712)."""

from __future__ import annotations

from hypercluster.market.money.signing import address_bytes, keccak, uint

_TYPE = keccak(b"Delivery(uint256 caseId,address member,address bearer)")


def delivery_hash(case_id: int, member: str, bearer: str) -> bytes:
    """Return the struct hash, 32 bytes, of: whoever holds the key of `bearer` brings `member` the evidence of a case.

    Both addresses are those of node or session keys, so what one member was shown is worth nothing to anybody else.
    Raises InvalidAmount for a number that no case has.
    """
    parties = (address_bytes(address).rjust(32, b"\0") for address in (member, bearer))
    return keccak(_TYPE + uint(case_id, 256) + b"".join(parties))
