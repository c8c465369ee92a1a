"""Deploy StakingRegistry, PaymentChannels, the three contracts of disputes and a token; write the deployment file.

    HC_PASSWORD_FILE=pass.txt python scripts/deploy.py --rpc-url https://... --key-file keys/deployer.json \
        --output deployment.json
    HC_DEPLOY_KEY=0x... python scripts/deploy.py --rpc-url http://127.0.0.1:8545 --output deployment.json

The deploying account pays the gas and holds the whole supply of the token, HCT. With --token another ERC-20 pays, and
all amounts are of that one; the account needs a little of it, to try whether it can pay: what takes a fee of transfers
or changes balances by itself is refused. The account's key comes from a Keystore V3 file with
HC_PASSWORD_FILE (or the password asked for on the terminal), or from HC_DEPLOY_KEY: never from the command line,
which other users of the machine can read. Only disputes can slash, and their terms are fixed for good.
"""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from dataclasses import replace
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount

from hypercluster.market.chain import DisputeTerms, Rpc, Token, deploy
from hypercluster.market.chain.deployment import CONTRACTS
from hypercluster.market.chain.trying import look_over
from hypercluster.market.errors import ChainError, MarketError
from hypercluster.market.money import format_hct, in_token, load_key, parse_hct, pay_in


def deployer(key_file: Path | None) -> LocalAccount:
    """Return the deploying account. Raises MarketError, or OSError for an unreadable password file."""
    if key_file is not None:
        password_file = os.environ.get("HC_PASSWORD_FILE")
        if password_file:
            lines = Path(password_file).read_text().splitlines()
            return load_key(key_file, lines[0] if lines else "")
        return load_key(key_file, getpass.getpass(f"Password of {key_file}: "))
    try:
        account: LocalAccount = Account.from_key(os.environ["HC_DEPLOY_KEY"])
    except KeyError:
        raise ChainError("There is no key to deploy with: give --key-file, or set HC_DEPLOY_KEY.") from None
    except (ValueError, TypeError):
        raise ChainError("HC_DEPLOY_KEY is not a private key: give 0x and 64 hex digits.") from None
    return account


def main() -> int:
    """Run the command; returns its exit status."""
    usual = DisputeTerms()  # amounts of 18 decimals
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rpc-url", default=os.environ.get("HC_RPC_URL", "http://127.0.0.1:8545"))
    parser.add_argument("--key-file", type=Path, help="Keystore V3 file of the deploying account")
    parser.add_argument(
        "--output", type=Path, default=Path("deployment.json"), help="deployment file to write"
    )
    parser.add_argument("--token", help="address of an ERC-20 that pays instead of HCT")
    parser.add_argument("--supply", default="1000000000", help="HCT that will ever exist")
    parser.add_argument("--min-stake", default="100", help="HCT of stake behind a node that make it eligible")
    parser.add_argument(
        "--session-stake", help="HCT of stake for each session a node offers; a sixteenth of --min-stake"
    )
    parser.add_argument("--unbonding", type=int, default=14 * 86_400, help="seconds that stake thaws")
    parser.add_argument(
        "--grace", type=int, default=86_400, help="seconds from asking to close to withdrawal"
    )
    parser.add_argument("--seats", type=int, default=usual.seats, help="members of a committee")
    parser.add_argument("--fault", default=format_hct(usual.fault), help="HCT that a proven fault costs")
    parser.add_argument("--bond", default=format_hct(usual.bond), help="HCT that an accuser puts down")
    parser.add_argument(
        "--evidence-window",
        type=int,
        default=usual.evidence_window,
        help="seconds in which a step can be disputed, and in which providers must keep it",
    )
    options = parser.parse_args()
    try:
        account = deployer(options.key_file)
        if options.token is not None:
            pay_in(look_over(Token(Rpc(options.rpc_url), options.token)))
        deployment = deploy(
            options.rpc_url,
            account,
            supply=parse_hct(options.supply),
            min_stake=parse_hct(options.min_stake),
            session_stake=None if options.session_stake is None else parse_hct(options.session_stake),
            unbonding_seconds=options.unbonding,
            grace_seconds=options.grace,
            terms=replace(
                usual,
                seats=options.seats,
                fault=parse_hct(options.fault),
                bond=parse_hct(options.bond),
                silence=in_token(usual.silence),
                demand_bond=in_token(usual.demand_bond),
                evidence_window=options.evidence_window,
            ),
            token=options.token,
        )
        deployment.save(options.output)
    except (MarketError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"chain     {deployment.chain_id}, block {deployment.block}")
    for name in CONTRACTS:
        print(f"{name:<9} {getattr(deployment, name)}")
    held = Token(Rpc(options.rpc_url), deployment.token).balance(account.address)
    print(f"{account.address} holds {format_hct(held)} HCT; written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
