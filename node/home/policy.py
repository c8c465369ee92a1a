"""What the wallet of a home may spend, in a file that people read and change: policy.toml."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypercluster.market.errors import InvalidAmount
from hypercluster.market.money.budget import Period
from hypercluster.market.money.units import HCT, format_hct, in_token, parse_hct
from hypercluster.node.errors import NodeError

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

POLICY = "policy.toml"
"""file in a home"""
NONE = "none"
"""how a limit is written that there is none"""
_HEADING = """\
What this wallet may spend. Amounts are HCT; "none" is no limit.
A running program takes a change up with its next request."""


class BadPolicy(NodeError):
    """The policy file cannot be read, or says what cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WalletPolicy:
    """What may be spent and how channels are filled. Amounts in wei; None is no limit.

    Raises BadPolicy for values that cannot be together.
    """

    per_request_wei: int | None = field(default_factory=lambda: in_token(HCT // 10))
    """one request, its audits included"""
    per_day_wei: int | None = field(default_factory=lambda: in_token(10 * HCT))
    """all requests of a day (UTC)"""
    total_wei: int | None = None
    """all requests ever"""
    ahead_wei: int | None = field(default_factory=lambda: in_token(HCT // 1000))
    """signed for and not answered, of one request, before a step with guesses follows that is not waited for"""
    per_key_wei: int | None = field(default_factory=lambda: in_token(HCT))
    """what a new API key gets that is given no budget of its own"""
    per_key_period: Period = Period.DAY
    float_wei: int = field(default_factory=lambda: in_token(HCT // 100))
    """deposited for a provider when its channel is opened or filled up; more where one request needs more"""
    top_up_below_wei: int = field(default_factory=lambda: in_token(HCT // 400))
    """a channel with less left is filled up before the next request over it"""

    def __post_init__(self) -> None:
        amounts = (getattr(self, each.name) for each in fields(self) if each.name.endswith("_wei"))
        if any(wei is not None and wei < 0 for wei in amounts):
            raise BadPolicy("An amount of the wallet's policy is below zero.")
        if self.top_up_below_wei > self.float_wei:
            raise BadPolicy(
                f"Channels would be filled up below {format_hct(self.top_up_below_wei)} HCT and filled to "
                f"{format_hct(self.float_wei)} HCT: raise float, or lower top_up_below."
            )


_PLACES = {
    "per_request_wei": ("limits", "per_request"),
    "per_day_wei": ("limits", "per_day"),
    "total_wei": ("limits", "total"),
    "ahead_wei": ("limits", "ahead"),
    "per_key_wei": ("keys", "budget"),
    "per_key_period": ("keys", "period"),
    "float_wei": ("channels", "float"),
    "top_up_below_wei": ("channels", "top_up_below"),
}
"""where each value stands in the file: table and name"""
_NEVER_NONE = ("float_wei", "top_up_below_wei")


def policy_file(home: Path) -> Path:
    """The policy file of a home, which need not be there."""
    return home / POLICY


def load_policy(home: Path) -> WalletPolicy:
    """The policy of a home; what its file leaves out is as in `WalletPolicy`.

    Raises:
        BadPolicy: the file cannot be read, or has a name or a value that is not known.
    """
    file = policy_file(home)
    document = _read(file)
    if document is None:
        return WalletPolicy()
    known = {place: name for name, place in _PLACES.items()}
    values: dict[str, Any] = {}
    for table, lines in document.unwrap().items():
        if not isinstance(lines, dict):
            raise BadPolicy(f"{file} says {table!r} outside of [limits], [keys] and [channels].")
        for line, value in lines.items():
            name = known.get((table, line))
            if name is None:
                raise BadPolicy(f"{file} says {line!r} in [{table}], which is not known there.")
            try:
                values[name] = read_value(name, str(value) if isinstance(value, int) else value)
            except BadPolicy as error:
                raise BadPolicy(f"{file}, {line} in [{table}]: {error}") from None
    return WalletPolicy(**values)


def read_value(name: str, text: object) -> int | Period | None:
    """What a text says for a field of `WalletPolicy`: an amount of HCT, a period, or "none". Raises BadPolicy."""
    if not isinstance(text, str):
        raise BadPolicy(f'an amount is written in quotes, such as "0.5", not {text!r}.')
    if name == "per_key_period":
        if text not in list(Period):
            raise BadPolicy(f"{text!r} is not one of {', '.join(Period)}.")
        return Period(text)
    if text == NONE:
        if name in _NEVER_NONE:
            raise BadPolicy("it needs an amount, as much must be deposited.")
        return None
    try:
        return parse_hct(text)
    except InvalidAmount as error:
        raise BadPolicy(str(error)) from None


def write_value(policy: WalletPolicy, name: str) -> str:
    """A field of `WalletPolicy` as the file has it."""
    value = getattr(policy, name)
    if isinstance(value, Period):
        return value.value
    return NONE if value is None else format_hct(value)


def save_policy(home: Path, policy: WalletPolicy) -> None:
    """Write a policy down, with the comments that the file has already.

    Raises:
        BadPolicy: the file that is there cannot be read, or the folder not written.
    """
    import tomlkit

    file = policy_file(home)
    document = _read(file)
    if document is None:
        document = tomlkit.document()
        for line in _HEADING.splitlines():
            document.add(tomlkit.comment(line))
    for name, (table, line) in _PLACES.items():
        if table not in document:
            document.add(table, tomlkit.table())
        lines: Any = document[table]
        if lines.get(line) != write_value(policy, name):
            lines[line] = write_value(policy, name)
    fresh = file.with_suffix(".new")
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh.write_text(tomlkit.dumps(document))
        fresh.replace(file)
    except OSError as error:
        raise BadPolicy(f"{file} cannot be written: {error.strerror or error}.") from None


def _read(file: Path) -> TOMLDocument | None:
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        return tomlkit.parse(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise BadPolicy(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}.") from None
    except TOMLKitError as error:
        raise BadPolicy(f"{file} is no TOML: {error}.") from None
