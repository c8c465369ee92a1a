"""Vouchers and quotes are exactly EIP-712, and only their maker's signature counts."""

import coincurve
import pytest
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

from hypercluster.market.errors import InvalidAddress, InvalidAmount, InvalidSignature
from hypercluster.market.money.signing import address_of, checksum
from hypercluster.market.money.units import UINT96_MAX
from hypercluster.market.money.voucher import DOMAIN_NAME, ChannelDescriptor, Quote, VoucherDomain, charge

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
DOMAIN = VoucherDomain(CONTRACT, 31337)
KEY = coincurve.PrivateKey(b"\x07" * 32)

keys = st.integers(1, ORDER - 1).map(lambda n: coincurve.PrivateKey(n.to_bytes(32, "big")))
wei = st.integers(0, UINT96_MAX)
hashes = st.binary(min_size=32, max_size=32)
addresses = st.binary(min_size=20, max_size=20)
quotes = st.builds(
    Quote,
    session=st.binary(min_size=16, max_size=16),
    model_id=hashes,
    layer_start=st.integers(0, 2**32 - 1),
    layer_stop=st.integers(0, 2**32 - 1),
    channel_id=hashes,
    price_wei=wei,
    prompt_price_wei=wei,
    capacity=st.integers(0, 2**32 - 1),
    wire_dtype=st.integers(0, 255),
    expires=st.integers(0, 2**40 - 1),
    cached_price_wei=wei,
)


def typed(
    domain: VoucherDomain, name: str, fields: list[tuple[str, str]], message: dict[str, object]
) -> bytes:
    """Return the digest that eth-account's generic encoder makes."""
    signable = encode_typed_data(
        domain_data={
            "name": DOMAIN_NAME,
            "version": "1",
            "chainId": domain.chain_id,
            "verifyingContract": domain.contract,
        },
        message_types={name: [{"type": kind, "name": field} for kind, field in fields]},
        message_data=message,
    )
    return keccak(b"\x19" + signable.version + signable.header + signable.body)


@given(hashes, wei, addresses, st.integers(1, 2**256 - 1))
def test_voucher_digest_equals_the_generic_encoder(
    channel_id: bytes, cumulative: int, contract: bytes, chain_id: int
) -> None:
    domain = VoucherDomain(checksum(contract), chain_id)
    expected = typed(
        domain,
        "Voucher",
        [("bytes32", "channelId"), ("uint96", "cumulative")],
        {"channelId": channel_id, "cumulative": cumulative},
    )
    assert domain.digest(channel_id, cumulative) == expected


@given(quotes, keys)
def test_quote_equals_the_generic_encoder_and_names_its_signer(
    quote: Quote, key: coincurve.PrivateKey
) -> None:
    fields = [
        ("bytes16", "session"),
        ("bytes32", "modelId"),
        ("uint32", "layerStart"),
        ("uint32", "layerStop"),
        ("bytes32", "channelId"),
        ("uint96", "price"),
        ("uint96", "promptPrice"),
        ("uint32", "capacity"),
        ("uint8", "wireDtype"),
        ("uint40", "expires"),
        ("uint96", "cachedPrice"),
    ]
    values = dict(zip((name for _, name in fields), vars(quote).values(), strict=True))
    digest = typed(DOMAIN, "Quote", fields, values)
    signature = DOMAIN.sign_quote(key, quote)
    assert DOMAIN.recover_quote(quote, signature) == address_of(key)
    vrs = signature[:32] + bytes([signature[32] & 0x7F]) + signature[33:] + bytes([27 + (signature[32] >> 7)])
    assert Account._recover_hash(digest, signature=vrs) == address_of(key)


@given(keys, hashes, wei)
def test_signatures_are_low_and_recover_to_their_signer(
    key: coincurve.PrivateKey, channel_id: bytes, cumulative: int
) -> None:
    signature = DOMAIN.sign(key, channel_id, cumulative)
    assert int.from_bytes(signature[32:], "big") & (2**255 - 1) <= ORDER // 2
    assert DOMAIN.recover(channel_id, cumulative, signature) == address_of(key)
    assert address_of(key) == Account.from_key(key.secret).address


@given(st.binary(min_size=64, max_size=64))
def test_random_bytes_never_pass_for_the_signer(signature: bytes) -> None:
    try:
        signer = DOMAIN.recover(b"\1" * 32, 5, signature)
    except InvalidSignature:
        return
    assert signer != address_of(KEY)


def test_the_high_s_twin_of_a_signature_is_refused() -> None:
    signature = DOMAIN.sign(KEY, b"\1" * 32, 5)
    parity, s = signature[32] >> 7, int.from_bytes(signature[32:], "big") & (2**255 - 1)
    twin = (ORDER - s) | ((1 - parity) << 255) if ORDER - s < 2**255 else (1 << 255) - 1
    with pytest.raises(InvalidSignature, match=r"malleable|no key"):
        DOMAIN.recover(b"\1" * 32, 5, signature[:32] + twin.to_bytes(32, "big"))


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\xff" * 64, b"\1" * 65])
def test_malformed_signatures_are_refused(signature: bytes) -> None:
    with pytest.raises(InvalidSignature):
        DOMAIN.recover(b"\1" * 32, 5, signature)


def test_a_voucher_counts_for_one_amount_channel_contract_and_chain() -> None:
    signature = DOMAIN.sign(KEY, b"\1" * 32, 5)
    elsewhere = [
        (DOMAIN, b"\1" * 32, 6),
        (DOMAIN, b"\2" * 32, 5),
        (VoucherDomain(CONTRACT, 1), b"\1" * 32, 5),
        (VoucherDomain("0x" + "11" * 20, 31337), b"\1" * 32, 5),
    ]
    for domain, channel_id, cumulative in elsewhere:
        assert domain.recover(channel_id, cumulative, signature) != address_of(KEY)


@given(addresses, addresses, addresses, hashes, addresses, st.integers(1, 2**64))
def test_channel_id_is_the_contracts(
    payer: bytes, payee: bytes, signer: bytes, salt: bytes, contract: bytes, chain_id: int
) -> None:
    descriptor = ChannelDescriptor(checksum(payer), checksum(payee), checksum(signer), salt)
    kinds = ["address", "address", "address", "bytes32", "address", "uint256"]
    expected = keccak(encode(kinds, [payer, payee, signer, salt, contract, chain_id]))
    assert VoucherDomain(checksum(contract), chain_id).channel_id(descriptor) == expected


def test_addresses_are_kept_in_one_form() -> None:
    lower = CONTRACT.lower()
    salt = b"\0" * 32
    assert ChannelDescriptor(lower, lower, lower, salt) == ChannelDescriptor(
        CONTRACT, CONTRACT, CONTRACT, salt
    )
    assert VoucherDomain(lower, 1) == VoucherDomain(CONTRACT, 1)
    for bad in ("", "0x12", CONTRACT[2:], CONTRACT.replace("b", "B"), "0x" + "zz" * 20, "x" * 10_000):
        with pytest.raises(InvalidAddress):
            ChannelDescriptor(bad, CONTRACT, CONTRACT, b"\0" * 32)
    with pytest.raises(InvalidAddress):
        checksum(b"\0" * 19)
    with pytest.raises(InvalidAmount, match="salt"):
        ChannelDescriptor(CONTRACT, CONTRACT, CONTRACT, b"")


def test_what_does_not_fit_is_refused_before_signing() -> None:
    for channel_id, cumulative in ((b"", 1), (b"\1" * 32, UINT96_MAX + 1), (b"\1" * 32, -1)):
        with pytest.raises(InvalidAmount):
            DOMAIN.sign(KEY, channel_id, cumulative)
    with pytest.raises(InvalidAmount):
        Quote(b"", b"", 0, 1, b"", 1, 1, 1, 0, 0).struct_hash()
    with pytest.raises(InvalidAmount, match="32 bits"):
        Quote(b"\0" * 16, b"\0" * 32, 0, 1, b"\0" * 32, 1, 1, 2**32, 0, 0).struct_hash()


def test_charge() -> None:
    assert charge(7, 2, 1) == 7
    assert charge(7, 2, 5) == 10
    with pytest.raises(InvalidAmount):
        charge(7, 2, 0)


@given(addresses)
def test_checksums_are_those_of_eip_55(address: bytes) -> None:
    assert checksum(address) == to_checksum_address(address)
