"""What the fixtures and the parts of these tests hand around, by name. A contract's methods have no types before ape
has read its interface, so what they return is Any."""

from collections.abc import Callable
from typing import Any, TypeAlias

from ape.api import ReceiptAPI
from ape.contracts import ContractInstance
from ape.managers.accounts import TestAccountManager
from ape.managers.chain import ChainManager
from ape_test.accounts import TestAccount

Account: TypeAlias = TestAccount
Accounts: TypeAlias = TestAccountManager
Chain: TypeAlias = ChainManager
Contract: TypeAlias = ContractInstance
Receipt: TypeAlias = ReceiptAPI

Deploy: TypeAlias = Callable[..., ContractInstance]
"""deploy(name, *constructor arguments, sender=deployer)"""
Sleep: TypeAlias = Callable[[int], None]
"""Lets seconds pass before the next block."""
Descriptor: TypeAlias = tuple[str, str, str, bytes]
"""A channel as contract calls take it: payer, payee, signer, salt."""
Signature: TypeAlias = tuple[int, int, int]
"""v, r, s"""
Struct: TypeAlias = dict[str, Any]
"""What is signed, in the order of the struct's fields."""
Call: TypeAlias = Callable[..., Any]
