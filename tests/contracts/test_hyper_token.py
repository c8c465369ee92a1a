import ape
import pytest

from tests.contracts.conftest import HCT
from tests.contracts.kinds import Account, Contract, Deploy
from tests.contracts.signing import sign_permit

DEADLINE = 2**40


def test_the_whole_supply_goes_to_the_holder(deploy: Deploy, stranger: Account) -> None:
    token = deploy("HyperToken", stranger, 5 * HCT)
    assert (token.name(), token.symbol(), token.decimals()) == ("HyperCluster Token", "HCT", 18)
    assert token.totalSupply() == token.balanceOf(stranger) == 5 * HCT


def test_the_supply_must_fit_96_bits(deploy: Deploy, deployer: Account, token: Contract) -> None:
    assert deploy("HyperToken", deployer, 2**96 - 1).totalSupply() == 2**96 - 1
    with pytest.raises(ape.exceptions.ContractLogicError):
        deploy("HyperToken", deployer, 2**96)


def test_burning_lowers_the_supply(token: Contract, payer: Account, stranger: Account) -> None:
    supply, held = token.totalSupply(), token.balanceOf(payer)
    token.burn(HCT, sender=payer)
    token.approve(stranger, HCT, sender=payer)
    token.burnFrom(payer, HCT, sender=stranger)
    assert token.totalSupply() == supply - 2 * HCT
    assert token.balanceOf(payer) == held - 2 * HCT
    with ape.reverts(token.ERC20InsufficientBalance):
        token.burn(1, sender=stranger)


def test_a_permit_is_an_allowance_once(token: Contract, payer: Account, stranger: Account) -> None:
    v, r, s = sign_permit(payer.private_key, token.address, payer.address, stranger.address, 7, 0, DEADLINE)
    permit = (payer, stranger, 7, DEADLINE, v, r.to_bytes(32), s.to_bytes(32))
    token.permit(*permit, sender=stranger)
    assert token.allowance(payer, stranger) == 7
    with ape.reverts(token.ERC2612InvalidSigner):
        token.permit(*permit, sender=stranger)


def test_a_permit_expires(token: Contract, payer: Account, stranger: Account) -> None:
    v, r, s = sign_permit(payer.private_key, token.address, payer.address, stranger.address, 7, 0, 1)
    with ape.reverts(token.ERC2612ExpiredSignature, error_inputs={"deadline": 1}):
        token.permit(payer, stranger, 7, 1, v, r.to_bytes(32), s.to_bytes(32), sender=stranger)
