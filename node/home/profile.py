"""What one has to know to join a network, in one small JSON file or at one https URL: chain, contracts, nodes, models.

Whoever takes a profile trusts its author with the names of models and with where the contracts are. So a profile from
a URL is kept at the first use, and from then on only one with the same chain and contracts is taken.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypercluster.market.errors import InvalidAddress, InvalidAmount
from hypercluster.market.money.signing import checksum
from hypercluster.market.money.units import IN_HCT, Unit, unit_of
from hypercluster.market.redaction import place
from hypercluster.node.catalogue import (
    CATALOGUE,
    BadCatalogue,
    Catalogue,
    ListedModel,
    Source,
    is_http,
    is_safe,
)
from hypercluster.node.home.contracts import WrongContracts
from hypercluster.node.home.profile_bytes import BadProfile, get, read
from hypercluster.node.home.signed_names import SignedNames, sign_names

if TYPE_CHECKING:
    import coincurve

    from hypercluster.market.chain import Chain, Deployment

log = logging.getLogger(__name__)

FORMAT = 1
MOST_MODELS = 1000
MOST_NODES = 100
KEPT = "profiles"
"""folder in a home"""
CONTRACTS = ("token", "registry", "channels", "cases", "proofs", "demands")


@dataclass(frozen=True, slots=True)
class ContractAt:
    """An EIP-55 address, and the Keccak-256 of the code that is there (64 hex digits)."""

    address: str
    code_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkProfile:
    """A network that can be joined. Raises BadProfile."""

    name: str
    chain_id: int
    rpc_url: str | None
    """None: everyone has to bring a node of the chain"""
    contracts: dict[str, ContractAt]
    block: int = 0
    """in which the contracts were deployed"""
    unit: Unit = IN_HCT
    """of the token"""
    bootstrap: tuple[str, ...] = ()
    """multiaddrs with /p2p/ to join through"""
    models: tuple[ListedModel, ...] = ()
    signed: SignedNames | None = None
    """who says what its models are; None: whoever gives the profile"""

    @property
    def catalogue(self) -> Catalogue:
        """Its models by name, then those that everyone has."""
        return Catalogue(self.models) | CATALOGUE.models

    def deployment(self) -> Deployment:
        """Where the contracts are."""
        from hypercluster.market.chain import Deployment

        addresses = {name: each.address for name, each in self.contracts.items()}
        code = {name: each.code_hash for name, each in self.contracts.items()}
        decimals, symbol = self.unit
        return Deployment(
            self.chain_id, **addresses, block=self.block, code=code, decimals=decimals, symbol=symbol
        )

    def check(self, chain: Chain) -> None:
        """Compare the code on the chain with the profile's hashes. Raises WrongContracts, ChainError."""
        found = chain.code_hashes([each.address for each in self.contracts.values()])
        for (name, told), there in zip(self.contracts.items(), found, strict=True):
            if there != told.code_hash:
                raise WrongContracts(
                    f"The contract {name} at {told.address} on chain {self.chain_id} is not the one that the profile "
                    f"of {self.name} names, by the hash of its code: use a profile from somebody you trust."
                )

    def document(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {
            "format": FORMAT,
            "name": self.name,
            "chain": {
                "rpc_url": self.rpc_url,
                "chain_id": self.chain_id,
                "block": self.block,
                **self.unit._asdict(),
                "contracts": {name: asdict(each) for name, each in self.contracts.items()},
            },
            "bootstrap": list(self.bootstrap),
            "models": [_model_document(model) for model in self.models],
            **({} if self.signed is None else {"signed": self.signed.document()}),
        }

    def signed_with(self, key: coincurve.PrivateKey, issued: int) -> NetworkProfile:
        """The same with its models signed, at so many Unix seconds."""
        registry = self.contracts["registry"].address
        return replace(self, signed=sign_names(key, self.models, issued, self.chain_id, registry))

    def save(self, path: Path) -> None:
        """Write the file in one move. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        part.write_text(json.dumps(self.document(), indent=2) + "\n")
        part.replace(path)

    @classmethod
    def parse(
        cls, raw: bytes, where: str, folder: Path | None = None, *, signed: bool = True
    ) -> NetworkProfile:
        """Read a profile strictly; paths of models are relative to `folder`, and refused where there is none.

        A signature that is not looked at (`signed`) is left out.
        """
        try:
            document = json.loads(raw)
            if not isinstance(document, dict) or document.get("format") != FORMAT:
                raise BadProfile(f"{where} is no network profile of format {FORMAT}.")
            return _profile(document if signed else document | {"signed": None}, folder)
        except (ValueError, RecursionError) as error:
            raise BadProfile(f"{where} is no network profile: it is no JSON ({error}).") from None
        except KeyError as error:
            raise BadProfile(f"The network profile {where} does not say {error}.") from None
        except (TypeError, AttributeError):
            raise BadProfile(
                f"The network profile {where} holds something of another kind than it should."
            ) from None
        except (BadCatalogue, InvalidAddress, InvalidAmount) as error:
            raise BadProfile(f"The network profile {where} cannot be used: {error}") from None


def profile_at(where: str, home: Path) -> NetworkProfile:
    """The profile in a file or at a URL; one from a URL is kept in `home` and serves while the URL does not answer.

    Raises BadProfile.
    """
    if "://" in where:
        return _from_url(where, home)
    try:
        path = Path(where).expanduser()
    except RuntimeError:
        raise BadProfile(
            f"The network profile {where} begins with the home of nobody here: give a whole path."
        ) from None
    return NetworkProfile.parse(read(path), str(path), path.absolute().parent)


def profile_of(
    chain: Chain,
    name: str,
    *,
    bootstrap: tuple[str, ...] = (),
    models: tuple[ListedModel, ...] = CATALOGUE.models,
) -> NetworkProfile:
    """The profile of a network whose contracts are on `chain` now, in which models have names. Raises ChainError."""
    deployment = chain.deployment
    addresses = {each: getattr(deployment, each) for each in CONTRACTS}
    hashes = chain.code_hashes(list(addresses.values()))
    return NetworkProfile(
        name=name,
        chain_id=deployment.chain_id,
        rpc_url=chain.url,
        contracts={
            each: ContractAt(addresses[each], found) for each, found in zip(CONTRACTS, hashes, strict=True)
        },
        block=deployment.block,
        unit=deployment.unit,
        bootstrap=bootstrap,
        models=models,
    )


@lru_cache(maxsize=8)
def known_profile(where: str, home: Path) -> NetworkProfile:
    """The same, once per process."""
    return profile_at(where, home)


def _from_url(url: str, home: Path) -> NetworkProfile:
    if not is_safe(url):
        raise BadProfile(f"A network profile is a file or an https URL, not {place(url)}.")
    kept = home / KEPT / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"
    before = None
    if kept.exists():
        before = NetworkProfile.parse(read(kept), str(kept))
    try:
        raw = get(url)
    except BadProfile as error:
        if before is None:
            raise
        log.warning("%s The copy of the last time serves.", error)
        return before
    now = NetworkProfile.parse(raw, place(url))
    if before is not None and (now.chain_id, now.contracts) != (before.chain_id, before.contracts):
        raise BadProfile(
            f"The network profile at {place(url)} names another chain or other contracts than at its first use here. "
            f"If that is known to be right, delete {kept} and try again."
        )
    if before is not None and before.signed is not None:
        _check_signer(before.signed, now.signed, place(url), kept)
    try:
        now.save(kept)
    except OSError as error:
        raise BadProfile(
            f"The network profile of {place(url)} cannot be kept in {kept}: {error.strerror}."
        ) from None
    return now


def _check_signer(before: SignedNames, now: SignedNames | None, where: str, kept: Path) -> None:
    """Raise BadProfile unless the same signed as before, and not earlier."""
    if now is None or now.signer != before.signer:
        who = "nobody" if now is None else now.signer
        raise BadProfile(
            f"The models of the network profile at {where} are signed by {who}, and at its first use here "
            f"{before.signer} had signed them. If that is known to be right, delete {kept} and try again."
        )
    if now.issued < before.issued:
        raise BadProfile(
            f"The network profile at {where} is older than one that was taken from there before: somebody gives "
            "what is out of date."
        )


def _profile(document: dict[str, Any], folder: Path | None) -> NetworkProfile:
    chain, bootstrap, models = document["chain"], document["bootstrap"], document["models"]
    told = {name: chain["contracts"][name] for name in CONTRACTS}
    contracts = {
        name: ContractAt(checksum(each["address"]), _digest(each["code_hash"])) for name, each in told.items()
    }
    if not (isinstance(bootstrap, list) and len(bootstrap) <= MOST_NODES):
        raise BadCatalogue(f"bootstrap is a list of {MOST_NODES} addresses at most.")
    for address in bootstrap:
        if not (
            isinstance(address, str) and address.startswith("/") and "/p2p/" in address and len(address) < 500
        ):
            raise BadCatalogue("bootstrap holds what is no multiaddr with /p2p/.")
    if not (isinstance(models, list) and len(models) <= MOST_MODELS):
        raise BadCatalogue(f"models is a list of {MOST_MODELS} at most.")
    rpc_url, name = chain["rpc_url"], document["name"]
    if not (rpc_url is None or (isinstance(rpc_url, str) and is_http(rpc_url))):
        raise BadCatalogue("rpc_url is no URL that begins with http:// or https:// and names a host.")
    if not (isinstance(name, str) and name.isprintable() and 0 < len(name) <= 80):
        raise BadCatalogue("its name is no short text.")
    listed = tuple(_model(each, folder) for each in models)
    chain_id, signed = _whole(chain["chain_id"]), SignedNames.parse(document.get("signed"))
    if signed is not None:
        signed.check(listed, chain_id, contracts["registry"].address)
    return NetworkProfile(
        name=name,
        chain_id=chain_id,
        rpc_url=rpc_url,
        contracts=contracts,
        block=_whole(chain.get("block", 0)),
        unit=unit_of(chain),
        bootstrap=tuple(bootstrap),
        models=listed,
        signed=signed,
    )


def _model(told: dict[str, Any], folder: Path | None) -> ListedModel:
    known = {each.name for each in fields(ListedModel)}
    values = {name: value for name, value in told.items() if name in known}
    aliases, about, source = values.pop("aliases", []), values.pop("about", ""), values.pop("source", None)
    if not (
        isinstance(aliases, list) and len(aliases) <= 20 and isinstance(about, str) and len(about) <= 500
    ):
        raise BadCatalogue(
            "the aliases of a model are a list of 20 names at most, and what is said of it is short."
        )
    certified = values.pop("certified", [])
    if not isinstance(certified, list) or any(each not in ("f16", "q8") for each in certified):
        raise BadCatalogue("the rows of a model are certified for f16, q8 or both.")
    return ListedModel(
        **values,
        aliases=tuple(aliases),
        certified=tuple(certified),
        about="".join(letter for letter in about if letter.isprintable()),
        source=_source(source, folder),
    )


def _source(told: dict[str, Any] | None, folder: Path | None) -> Source | None:
    if told is None:
        return None
    known = {each.name for each in fields(Source)}
    values = {name: value for name, value in told.items() if name in known and value is not None}
    if any(not isinstance(value, str) for name, value in values.items() if name != "size"):
        raise BadCatalogue("a model's source holds texts, and its size.")
    if "path" in values:
        if folder is None:
            raise BadCatalogue("a path is for profiles in files: name a URL.")
        try:
            values["path"] = folder / Path(values["path"]).expanduser()
        except RuntimeError:
            raise BadCatalogue("the path of a model begins with the home of nobody here.") from None
    return Source(**values)


def _model_document(model: ListedModel) -> dict[str, Any]:
    source = None
    if model.source is not None:
        told = {name: value for name, value in asdict(model.source).items() if value not in ("", None)}
        source = {name: str(value) if isinstance(value, Path) else value for name, value in told.items()}
    return {
        **asdict(model),
        "aliases": list(model.aliases),
        "certified": list(model.certified),
        "source": source,
    }


def _digest(value: Any) -> str:
    text = str(value).removeprefix("0x")
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise BadCatalogue("the hash of a contract's code is 64 hex digits.")
    return text


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise BadCatalogue("a number is none.")
    return value
