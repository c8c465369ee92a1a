"""Signatures as wallets make them: eth-account's generic EIP-712, not the market's fast path."""

from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data

HALF_ORDER = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

VOUCHER = {"Voucher": [("channelId", "bytes32"), ("cumulative", "uint96")]}
AUTHORIZE = {"Authorize": [("operator", "address"), ("nodeKey", "address"), ("deadline", "uint256")]}
STAGE = {
    "Stage": [
        ("session", "bytes16"),
        ("nonce", "bytes16"),
        ("channelId", "bytes32"),
        ("modelId", "bytes32"),
        ("layerStart", "uint32"),
        ("layerStop", "uint32"),
        ("wireDtype", "uint8"),
        ("profile", "bytes32"),
    ]
}
RECEIPT = {
    "Receipt": [
        ("stage", "Stage"),
        ("seq", "uint32"),
        ("position", "uint32"),
        ("tokens", "uint32"),
        ("outputs", "uint32"),
        ("inRoot", "bytes32"),
        ("outRoot", "bytes32"),
        ("previous", "bytes32"),
        ("issued", "uint40"),
    ],
    **STAGE,
}
VERDICT = {
    "Verdict": [
        ("modelId", "bytes32"),
        ("layerStart", "uint32"),
        ("layerStop", "uint32"),
        ("wireDtype", "uint8"),
        ("tail", "bool"),
        ("profile", "bytes32"),
        ("inRoot", "bytes32"),
        ("outRoot", "bytes32"),
        ("tokens", "uint32"),
        ("outputs", "uint32"),
        ("finding", "uint8"),
        ("tolerance", "uint32"),
        ("fingerprint", "bytes32"),
        ("job", "bytes32"),
        ("issued", "uint40"),
    ]
}
PERMIT = {
    "Permit": [
        ("owner", "address"),
        ("spender", "address"),
        ("value", "uint256"),
        ("nonce", "uint256"),
        ("deadline", "uint256"),
    ]
}


def sign(
    key: str,
    name: str,
    contract: str,
    types: dict[str, list[tuple[str, str]]],
    message: dict[str, Any],
    chain_id: int = 31337,
) -> tuple[int, int, int]:
    """Sign an EIP-712 message in the domain (name, "1", chain_id, contract). Returns (v, r, s)."""
    domain = {"name": name, "version": "1", "chainId": chain_id, "verifyingContract": contract}
    fields = {struct: [{"name": n, "type": t} for n, t in members] for struct, members in types.items()}
    signed = Account.sign_message(encode_typed_data(domain, fields, message), key)
    return signed.v, signed.r, signed.s


def sign_voucher(
    key: str, channels: str, channel_id: bytes, cumulative: int, **other: Any
) -> tuple[int, int, int]:
    """Sign a voucher of `cumulative` wei over a channel of the contract at `channels`."""
    message = {"channelId": channel_id, "cumulative": cumulative}
    return sign(key, "HyperCluster PaymentChannels", channels, VOUCHER, message, **other)


def sign_consent(
    key: str, registry: str, operator: str, node_key: str, deadline: int
) -> tuple[int, int, int]:
    """Sign a node key's consent to an operator."""
    message = {"operator": operator, "nodeKey": node_key, "deadline": deadline}
    return sign(key, "HyperCluster StakingRegistry", registry, AUTHORIZE, message)


def sign_permit(
    key: str, token: str, owner: str, spender: str, value: int, nonce: int, deadline: int
) -> tuple[int, int, int]:
    """Sign an EIP-2612 permit of the token at `token`."""
    message = {"owner": owner, "spender": spender, "value": value, "nonce": nonce, "deadline": deadline}
    return sign(key, "HyperCluster Token", token, PERMIT, message)


def sign_receipt(
    key: str, disputes: str, stage: dict[str, Any], receipt: dict[str, Any], **other: Any
) -> tuple[int, int, int]:
    """Sign a receipt for one step of a stage."""
    message = {"stage": stage, **receipt}
    return sign(key, "HyperCluster Disputes", disputes, RECEIPT, message, **other)


def sign_verdict(key: str, disputes: str, verdict: dict[str, Any], **other: Any) -> tuple[int, int, int]:
    """Sign a verifier's verdict."""
    return sign(key, "HyperCluster Disputes", disputes, VERDICT, verdict, **other)


def words(signature: tuple[int, int, int]) -> tuple[bytes, bytes]:
    """r and vs of EIP-2098."""
    v, r, s = signature
    return r.to_bytes(32, "big"), (s | (v - 27) << 255).to_bytes(32, "big")


def compact(signature: tuple[int, int, int]) -> bytes:
    """64 bytes: r, vs."""
    return b"".join(words(signature))


def full(signature: tuple[int, int, int]) -> bytes:
    """65 bytes: r, s, v."""
    v, r, s = signature
    return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([v])


def malleated(signature: tuple[int, int, int]) -> tuple[int, int, int]:
    """The other signature that plain ecrecover takes for the same message and key: s in the upper half."""
    v, r, s = signature
    return 55 - v, r, ORDER - s
