"""Settings from the environment (12-factor): every one is `HC_` and its name.

They are also read from a file `.env`, and last from the file that HC_CONFIG names (config.py).
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from hypercluster.market.economics.parameters import BadParameters
from hypercluster.market.economics.shares import Shares
from hypercluster.market.redaction import hide
from hypercluster.node.catalogue import CATALOGUE, Catalogue, is_http
from hypercluster.node.home.config import check_env, no_text, read_config

if TYPE_CHECKING:
    from hypercluster.node.home.profile import NetworkProfile

TESTNET_HOME = "testnet"
LEDGER = "ledger.sqlite"
"""file in a home, unless another database is named"""

PEERS = "peers.json"
"""file in a home: peers met and adverts heard, for the next command"""

TRANSCRIPTS = "transcripts"
"""folder in a home: what stages were asked and answered, for a bounded time"""

VOUCHERS = "vouchers.journal"
"""file in a home: vouchers that are signed, until the ledger knows what became of them"""

EVIDENCE = "evidence"
"""folder in a verifier's home: transcripts of the cases it judges"""


FORMATS = ("text", "json")
SHARED = ("none", "proofs", "all")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


ENV_FILE = ".env"
"""file of variables in the current folder"""


class Settings(BaseSettings):
    """What every command may be told by the environment. Flags of a command come before these."""

    model_config = SettingsConfigDict(
        env_prefix="HC_", env_file=ENV_FILE, extra="ignore", use_attribute_docstrings=True
    )

    def __init__(self, **values: Any) -> None:
        check_env(Path(str(values.get("_env_file", ENV_FILE))))
        try:
            super().__init__(**values)
        except UnicodeDecodeError as error:
            raise no_text(error) from None

    home: Path = Path("~/.hypercluster")
    """folder of keys, ledger and shards"""
    rpc_url: str = "http://127.0.0.1:8545"
    """JSON-RPC of the chain; several URLs separated by commas take over from each other"""
    confirmations: int | None = Field(default=None, ge=0, le=1000)
    """blocks that have to follow one before what is in it counts as final; 12 unless set, 0 on a local network"""
    deployment: Path | None = None
    """file with the addresses of the contracts; `hc-testnet up` writes one"""
    bootstrap: Annotated[tuple[str, ...], NoDecode] = ()
    """multiaddrs with /p2p/ of nodes to join the network through, separated by commas"""
    password_file: Path | None = None
    """file whose first line unlocks the keys; asked for on the terminal when not set"""
    ledger_url: str | None = None
    """SQLAlchemy URL of the ledger; SQLite in the home folder when not set"""
    mdns: bool = False
    """also look for nodes on the local network"""
    profile: str | None = None
    """network to join, a JSON file or an https URL: says where the chain, the contracts, nodes and models are"""
    cache: Path | None = None
    """folder of fetched models; ~/.cache/hypercluster when not set"""
    operator_hops: float = 0.5
    """most of a path's hops that one operator serves while others could; above 0 up to 1"""
    operator_requests: float = 0.75
    """most of the latest requests that go over one operator while others could; above 0 up to 1"""
    trials: float = 0.1
    """share of requests that may go over an operator who never served this client; 0 to 1"""
    chain: bool = True
    """let rows go from provider to provider where both offer it; 0: all of them through this client"""
    pay_ahead: Annotated[int, Field(ge=1, le=64)] = 1
    """tokens that one voucher pays for, 1 to 64: more is less work, and what a provider may keep that leaves"""
    in_flight: Annotated[int | None, Field(ge=0, le=8)] = None
    """steps with guesses that a client sends before those before them are answered, at most; 0: none"""
    spare: bool = False
    """have others stand by for the providers of a client's paths, paid the prompt price for each token"""
    share_evidence: str = "proofs"
    """what a client tells others of faults: none, proofs (two receipts for one step), or all (failed audits too)"""
    log_level: str = "WARNING"
    """how much is logged to standard error: debug, info, warning, error or critical"""
    log_format: str = "text"
    """text for people, or json: one object a line"""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment first, then .env, then the file that HC_CONFIG names."""
        return init_settings, env_settings, dotenv_settings, InitSettingsSource(settings_cls, _in_config(cls))

    @model_validator(mode="before")
    @classmethod
    def _refuse_empty(cls, values: dict[str, object]) -> dict[str, object]:
        for name, value in values.items():
            if isinstance(value, str) and not value.replace(",", " ").strip():
                raise ValueError(f"HC_{name.upper()} is empty: give it a value or unset it")
        return values

    @field_validator("bootstrap", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(value.replace(",", " ").split()) if isinstance(value, str) else value

    @field_validator("rpc_url", mode="after")
    @classmethod
    def _check_url(cls, value: str) -> str:
        if not all(map(is_http, value.replace(",", " ").split())):
            raise ValueError("it is no URL that begins with http:// or https:// and names a host")
        return value

    @model_validator(mode="after")
    def _check_shares(self) -> "Settings":
        try:
            _ = self.shares
        except BadParameters as error:
            raise ValueError(str(error)) from None
        return self

    @property
    def shares(self) -> Shares:
        """How much of a client's work one operator gets, and those who never served it."""
        return Shares(hops=self.operator_hops, requests=self.operator_requests, trials=self.trials)

    @field_validator("log_level", mode="after")
    @classmethod
    def _check_level(cls, value: str) -> str:
        if value.upper() not in LEVELS:
            raise ValueError(f"it is one of {', '.join(LEVELS)}")
        return value.upper()

    @field_validator("share_evidence", mode="after")
    @classmethod
    def _check_sharing(cls, value: str) -> str:
        if value.lower() not in SHARED:
            raise ValueError(f"it is one of {', '.join(SHARED)}")
        return value.lower()

    @field_validator("log_format", mode="after")
    @classmethod
    def _check_format(cls, value: str) -> str:
        if value.lower() not in FORMATS:
            raise ValueError(f"it is one of {', '.join(FORMATS)}")
        return value.lower()

    @field_validator("home", "deployment", "password_file", "cache", mode="after")
    @classmethod
    def _expand(cls, value: Path | None) -> Path | None:
        try:
            return value.expanduser() if value else value
        except RuntimeError:
            raise ValueError(f"{value} names a user who has no home here: give a whole path") from None

    @model_validator(mode="after")
    def _hide(self) -> "Settings":
        for each in self.rpc_url.replace(",", " ").split():
            hide(each)
        hide(self.ledger_url)
        return self

    @model_validator(mode="after")
    def _fill_from_profile(self) -> "Settings":
        """What was not set is as the profile says. Raises BadProfile."""
        profile = self.network_profile
        if profile is not None:
            if profile.rpc_url is not None and "rpc_url" not in self.model_fields_set:
                self.rpc_url = profile.rpc_url
            if "bootstrap" not in self.model_fields_set:
                self.bootstrap = profile.bootstrap
        return self

    @property
    def network_profile(self) -> "NetworkProfile | None":
        """The profile named, read once per process. Raises BadProfile."""
        if self.profile is None:
            return None
        from hypercluster.node.home.profile import known_profile

        return known_profile(self.profile, self.home)

    @property
    def catalogue(self) -> Catalogue:
        """Models by name: those of the profile, then those that everyone has."""
        profile = self.network_profile
        return CATALOGUE if profile is None else profile.catalogue

    @property
    def cache_folder(self) -> Path:
        """Where fetched models are kept."""
        if self.cache is not None:
            return self.cache
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        return (base if base.is_absolute() else Path("~/.cache").expanduser()) / "hypercluster"

    @property
    def deployment_file(self) -> Path:
        """The deployment file named, else the one that a local testnet of this home wrote."""
        return self.deployment or self.home / TESTNET_HOME / "deployment.json"


def _in_config(cls: type[Settings]) -> dict[str, object]:
    config = read_config(cls.model_fields)
    return dict(config.settings) if config else {}
