"""Decoders of files: what a home keeps, what others hand over, and models."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from gguf.constants import GGUFValueType
from pydantic import ValidationError

from hypercluster.market.chain.deployment import Deployment
from hypercluster.market.economics.advert_file import load_adverts
from hypercluster.market.ledger.voucher_journal import VoucherJournal
from hypercluster.market.money.keystore import address_in, load_key
from hypercluster.market.money.units import parse_hct, parse_price
from hypercluster.market.trust.audit import Bounds
from hypercluster.node.cli.hc.door import found_door
from hypercluster.node.client.journal import Journal
from hypercluster.node.evidence.checking import check_bundle
from hypercluster.node.evidence.transcript_store import TranscriptStore
from hypercluster.node.home import backup, contracts, lock
from hypercluster.node.home.config import VARIABLE, read_config
from hypercluster.node.home.last_run import remembered
from hypercluster.node.home.policy import WalletPolicy, load_policy, save_policy
from hypercluster.node.home.profile import NetworkProfile
from hypercluster.node.home.resources import told_unit
from hypercluster.node.home.running import read_running
from hypercluster.node.home.settings import Settings
from hypercluster.node.network.memory import Memory
from hypercluster.node.replay.recordings import read_recording
from hypercluster.node.shards.blocks import BlockHashes
from hypercluster.node.shards.certificate import Certificate
from hypercluster.node.shards.foreign import what_it_is
from hypercluster.node.shards.manifest import Manifest
from hypercluster.node.shards.model import check_source
from hypercluster.node.shards.pieces import read_container
from hypercluster.node.shards.planning import plan
from hypercluster.node.shards.ranges import parse_path, parse_range
from hypercluster.node.shards.store import StoredModel
from hypercluster.node.shards.traits import traits_of
from hypercluster.node.web.login import NoLink, new_link
from tests.fuzz.decoder import CORPUS, Decoder, from_file, from_home, from_text
from tests.fuzz.mutation import Shape

MODEL_ID = "ab" * 32
STAGE = bytes(32)
PASSWORD = "password"


def _transcript(path: Path) -> object:
    store = TranscriptStore(path.parent, keep_seconds=100, max_bytes=2**20)
    return store.load(STAGE), store.latest(lambda record: True), [*store.records()], store.size()


def _deployment(path: Path) -> object:
    with patch.dict(os.environ, HC_HOME=str(path.parent), HC_DEPLOYMENT=str(path)):
        told = told_unit()
    return Deployment.load(path), told


def _model(path: Path) -> object:
    container = read_container(path)
    for name, field in container.fields.items():
        if field.type is not GGUFValueType.ARRAY:
            container.scalar(name)
    model = check_source(path)
    blueprint = model.blueprint
    return [plan(blueprint, at, at + 1) for at in range(blueprint.layers) if not traits_of(model).starts]


@cache
def _stored() -> StoredModel:
    manifest = Manifest.parse((CORPUS / "manifest" / "tiny").read_bytes())
    return StoredModel(manifest, Path("/nonexistent"), None)


def _policy(home: Path) -> object:
    found = load_policy(home)
    save_policy(home, WalletPolicy())
    return found


def _config(path: Path) -> object:
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(path)
    try:
        return read_config(Settings.model_fields)
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before


def _dotenv(path: Path) -> object:
    return Settings(_env_file=path)


def _key(path: Path) -> object:
    return address_in(path), load_key(path, PASSWORD)


def _running(home: Path) -> object:
    """As if the process that wrote it still held the home."""
    found = read_running(home)
    return found and found.document()


def _journal(path: Path) -> object:
    journal = Journal(path)
    try:
        return journal.state
    finally:
        journal.close()


def _vouchers(path: Path) -> object:
    journal = VoucherJournal(path)
    try:
        return journal.to_feed(), journal.held()
    finally:
        journal.close()


def _backup(path: Path) -> object:
    with TemporaryDirectory(dir=path.parent) as folder:
        return backup._unpack(path, Path(folder))


def _amounts(text: str) -> object:
    return parse_hct(text), parse_price(text)


def _layers(text: str) -> object:
    return parse_path(text, 32) if "," in text else parse_range(text, 32)


DECODERS = (
    Decoder(
        "transcript",
        from_file(_transcript, f"transcripts/{STAGE.hex()}.transcript"),
        (
            "node/evidence/transcript_store.py:_frames",
            "node/evidence/transcript_store.py:TranscriptStore.latest",
            "node/evidence/transcript_store.py:TranscriptStore.records",
        ),
    ),
    Decoder(
        "bundle",
        check_bundle,
        (
            "node/evidence/bundle.py:read_bundle",
            "node/evidence/bundle.py:_session",
            "node/evidence/bundle.py:_packed",
            "node/evidence/bundle.py:PaidSession.steps",
        ),
        Shape.JSON,
    ),
    Decoder(
        "manifest",
        Manifest.parse,
        (
            "node/shards/manifest.py:Manifest.parse",
            "node/shards/values.py:_parsed",
            "node/shards/values.py:_texts",
            "node/shards/values.py:_whole",
        ),
        Shape.JSON,
    ),
    Decoder(
        "blocks",
        lambda data: BlockHashes.parse(data, _stored().manifest),
        ("node/shards/blocks.py:BlockHashes.parse",),
    ),
    Decoder(
        "model",
        from_file(_model, "model.gguf"),
        (
            "node/shards/header.py:_Header.alignment",
            "node/shards/header.py:_Header.number",
            "node/shards/container.py:Container.scalar",
            "node/shards/container.py:Container.integers",
            "node/shards/container.py:Container.texts",
            "node/shards/blueprint.py:decoded",
            "node/shards/blueprint.py:item_type",
            "node/shards/keys.py:_fitted",
        ),
    ),
    Decoder(
        "deployment",
        from_file(_deployment),
        ("market/chain/deployment.py:Deployment.load", "node/home/resources.py:told_unit"),
        Shape.JSON,
    ),
    Decoder(
        "profile",
        lambda data: NetworkProfile.parse(data, "profile.json", Path("/nonexistent")),
        ("node/home/profile.py:NetworkProfile.parse", "node/home/signed_names.py:SignedNames.parse"),
        Shape.JSON,
    ),
    Decoder("policy", from_home(_policy, "policy.toml"), ("node/home/policy.py:_read",), Shape.TEXT),
    Decoder("config", from_file(_config, "config.toml"), ("node/home/config.py:read_config",), Shape.TEXT),
    Decoder(
        "dotenv",
        from_file(_dotenv, ".env"),
        ("node/home/settings.py:Settings._refuse_empty",),
        Shape.TEXT,
        (ValidationError,),
    ),
    Decoder(
        "keystore",
        from_file(_key),
        (
            "market/money/keystore.py:_read",
            "market/money/keystore.py:_is_costly",
            "market/money/keystore.py:address_in",
        ),
        Shape.JSON,
    ),
    Decoder(
        "peers_file",
        from_file(lambda path: Memory(path).adverts(MODEL_ID)),
        ("node/network/memory.py:Memory.__init__", "node/network/memory.py:Memory._read"),
        Shape.JSON,
    ),
    Decoder(
        "last_run", from_home(remembered, "node.json"), ("node/home/last_run.py:remembered",), Shape.JSON
    ),
    Decoder("backup", from_file(_backup, "backup.tar.gz"), ("node/home/backup.py:_unpack",)),
    Decoder(
        "checked",
        from_home(contracts._remembered, contracts.CHECKED),
        ("node/home/contracts.py:_remembered",),
        Shape.JSON,
    ),
    Decoder("holder", from_file(lock._read), ("node/home/lock.py:_read",), Shape.JSON),
    Decoder(
        "running_file",
        from_home(_running, "running.json"),
        ("node/home/running.py:read_running",),
        Shape.JSON,
    ),
    Decoder("link_file", from_file(new_link), ("node/web/login.py:new_link",), Shape.JSON, (NoLink,)),
    Decoder("door", from_home(found_door, "up.json"), ("node/cli/hc/door.py:found_door",), Shape.JSON),
    Decoder(
        "journal",
        from_file(_journal),
        ("market/record_file.py:_whole", "node/client/journal.py:_unpacked"),
    ),
    Decoder("voucher_journal", from_file(_vouchers), ("market/ledger/voucher_journal.py:_unpacked",)),
    Decoder("no_model", what_it_is, ("node/shards/foreign.py:what_it_is",)),
    Decoder(
        "bounds",
        from_file(lambda path: Bounds.load(path, MODEL_ID)),
        ("market/trust/audit.py:Bounds.load",),
        Shape.JSON,
    ),
    Decoder(
        "certificate",
        from_file(lambda path: Certificate.load(path, MODEL_ID).certified),
        ("node/shards/certificate.py:Certificate.load",),
        Shape.JSON,
    ),
    Decoder(
        "recording",
        from_file(lambda path: read_recording(path, _stored()), "recording.npz"),
        ("node/replay/recordings.py:read_recording",),
    ),
    Decoder(
        "adverts_file",
        from_file(load_adverts),
        ("market/economics/advert_file.py:load_adverts",),
        Shape.JSON,
    ),
    Decoder("amount", from_text(_amounts), ("market/money/units.py:parse_hct",), Shape.TEXT),
    Decoder("layers", from_text(_layers), ("node/shards/ranges.py:parse_range",), Shape.TEXT),
)
