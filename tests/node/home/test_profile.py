"""Network profiles: what is in one, what none may hold, and what of it a setting overrides."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import coincurve
import pytest

from hypercluster.market.chain import Chain
from hypercluster.market.money.signing import address_of
from hypercluster.node.catalogue import SMOLLM2, VERSE, ListedModel, Source, UnknownModel
from hypercluster.node.home import NetworkProfile, keys, profile_at
from hypercluster.node.home.contracts import WrongContracts
from hypercluster.node.home.profile import ContractAt, profile_of
from hypercluster.node.home.profile_bytes import MOST_BYTES, BadProfile
from hypercluster.node.home.resources import open_chain
from hypercluster.node.home.settings import Settings

BOOTSTRAP = ("/ip4/127.0.0.1/tcp/4001/p2p/16Uiu2HAmSomebody",)


@pytest.fixture(scope="module")
def profile(chain: Chain) -> NetworkProfile:
    return profile_of(chain, "a network", bootstrap=BOOTSTRAP)


def test_a_profile_comes_back_as_it_was_saved(profile: NetworkProfile, tmp_path: Path) -> None:
    profile.save(tmp_path / "profile.json")
    assert profile_at(str(tmp_path / "profile.json"), tmp_path) == profile


def test_settings_are_filled_from_a_profile_where_nothing_else_is_said(
    profile: NetworkProfile, chain: Chain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "profile.json"
    profile.save(path)
    monkeypatch.setenv("HC_PROFILE", str(path))
    settings = Settings(home=tmp_path)
    assert (settings.rpc_url, settings.bootstrap) == (chain.url, BOOTSTRAP)
    assert settings.catalogue.named("SMOLLM2") == SMOLLM2
    assert open_chain(settings).deployment == chain.deployment
    monkeypatch.setenv("HC_RPC_URL", "http://127.0.0.1:9")
    assert Settings(home=tmp_path, bootstrap=()).rpc_url == "http://127.0.0.1:9"
    assert Settings(home=tmp_path, bootstrap=()).bootstrap == ()


def test_contracts_that_are_others_are_refused(profile: NetworkProfile, chain: Chain) -> None:
    profile.check(chain)
    token = profile.contracts["token"]
    for wrong in (ContractAt(token.address, "0" * 64), ContractAt("0x" + "11" * 20, token.code_hash)):
        with pytest.raises(WrongContracts, match="The contract token at"):
            replace(profile, contracts=profile.contracts | {"token": wrong}).check(chain)


def changed(document: dict[str, Any], *path: str | int, value: Any) -> None:
    for part in path[:-1]:
        document = document[part]  # type: ignore[index]
    document[path[-1]] = value  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        (["format"], 2, "format 1"),
        (["name"], "", "its name"),
        (["name"], "x\x1b[2J", "its name"),
        (["chain", "chain_id"], "31337", "a number is none"),
        (["chain", "rpc_url"], "file:///etc/passwd", "rpc_url"),
        (["chain", "contracts", "token", "address"], "0x12", "address"),
        (["chain", "contracts", "token", "code_hash"], "zz", "64 hex"),
        (["chain", "contracts"], {}, "'token'"),
        (["bootstrap"], "/ip4/1.2.3.4", "bootstrap is a list"),
        (["bootstrap"], ["1.2.3.4:4001"], "no multiaddr"),
        (["bootstrap"], ["/ip4/1.1.1.1/tcp/1/p2p/x"] * 101, "100 addresses"),
        (["models"], {}, "models is a list"),
        (["models", 0, "name"], "../../etc", "is no name of a model"),
        (["models", 0, "model_id"], "abc", "64 hex digits"),
        (["models", 0, "layers"], 0, "layers of smollm2"),
        (["models", 0, "layers"], True, "layers of smollm2"),
        (["models", 0, "aliases"], "smol", "aliases"),
        (["models", 0, "source"], {"url": "http://example.org/x", "sha256": "0" * 64}, "https"),
        (["models", 0, "source"], {"path": 7}, "texts"),
        (["models", 0, "source"], {"path": "~nobody-of-that-name/x"}, "home of nobody"),
        (["models", 0, "name"], VERSE.model_id, "the id of another"),
        (["models", 0, "aliases"], [VERSE.model_id.upper()], "the id of another"),
        (["models", 0, "source"], "https://example.org", "another kind"),
        (["models", 0], None, "another kind"),
        (["chain"], [], "another kind"),
    ],
)
def test_a_profile_that_breaks_a_rule_is_a_sentence(
    profile: NetworkProfile, tmp_path: Path, path: list[str | int], value: Any, why: str
) -> None:
    document = profile.document()
    changed(document, *path, value=value)
    file = tmp_path / "profile.json"
    file.write_text(json.dumps(document))
    with pytest.raises(BadProfile, match=why):
        profile_at(str(file), tmp_path)


@pytest.mark.parametrize(
    "raw", [b"", b"no json", b"[]", b"\xff\xfe", b"[" * 100_000, b" " * (MOST_BYTES + 1)]
)
def test_what_is_no_profile_at_all_is_a_sentence(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "profile.json").write_bytes(raw)
    with pytest.raises(BadProfile):
        profile_at(str(tmp_path / "profile.json"), tmp_path)
    with pytest.raises(BadProfile, match="cannot be read"):
        profile_at(str(tmp_path / "missing.json"), tmp_path)


def test_names_are_found_whatever_their_case_and_by_the_beginning_of_an_id(profile: NetworkProfile) -> None:
    own = ListedModel(
        name="verse", model_id="ab" * 32, layers=2, n_vocab=10, context=10, aliases=("Mine",), top_p=0.5
    )
    catalogue = replace(profile, models=(own,)).catalogue
    assert catalogue.named("mine") == catalogue.named("VERSE") == own
    assert catalogue.named("abababab") == own
    assert catalogue.named(SMOLLM2.model_id) == SMOLLM2
    assert catalogue.of(VERSE.model_id) is None  # the profile's own took the name
    for nobody in ("ab", "llama", ""):
        with pytest.raises(UnknownModel, match="verse, smollm2"):
            catalogue.named(nobody)


def test_paths_of_models_are_relative_to_the_file(profile: NetworkProfile, tmp_path: Path) -> None:
    model = replace(SMOLLM2, source=Source(path=Path("models/a.gguf")))
    (tmp_path / "net").mkdir()
    replace(profile, models=(model,)).save(tmp_path / "net" / "profile.json")
    read = profile_at(str(tmp_path / "net" / "profile.json"), tmp_path)
    assert read.models[0].source == Source(path=tmp_path / "net" / "models" / "a.gguf")


@pytest.fixture
def serve() -> Iterator[Callable[[bytes], str]]:
    """Gives what it was told last at its URL."""
    answer = [b""]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not answer[0]:
                self.send_error(404)
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer[0])

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def set_(raw: bytes) -> str:
            answer[0] = raw
            return f"http://127.0.0.1:{server.server_port}/net.json?secret=hidden-key"

        yield set_
        server.shutdown()
        thread.join()


def raw(profile: NetworkProfile) -> bytes:
    return json.dumps(profile.document()).encode()


def test_a_profile_from_a_url_is_kept_and_its_contracts_may_not_change(
    profile: NetworkProfile, tmp_path: Path, serve: Callable[[bytes], str]
) -> None:
    url = serve(raw(profile))
    assert profile_at(url, tmp_path) == profile
    moved = replace(profile, bootstrap=())
    assert profile_at(serve(raw(moved)), tmp_path) == moved
    serve(b"")
    assert profile_at(url, tmp_path) == moved  # while the URL does not answer
    serve(raw(replace(profile, chain_id=1)))
    with pytest.raises(BadProfile, match="another chain or other contracts") as refused:
        profile_at(url, tmp_path)
    assert "hidden-key" not in str(refused.value)


def test_a_url_that_gives_no_profile_is_a_sentence(
    profile: NetworkProfile, tmp_path: Path, serve: Callable[[bytes], str]
) -> None:
    with pytest.raises(BadProfile, match="answers 404"):
        profile_at(serve(b""), tmp_path)
    with pytest.raises(BadProfile, match="longer than"):
        profile_at(serve(b" " * (MOST_BYTES + 1)), tmp_path)
    with pytest.raises(BadProfile, match="a path is for profiles in files"):
        profile_at(
            serve(raw(replace(profile, models=(replace(SMOLLM2, source=Source(path=Path("/x"))),)))), tmp_path
        )
    for wrong in ("http://example.org/net.json", "ftp://example.org/net.json"):
        with pytest.raises(BadProfile, match="a file or an https URL"):
            profile_at(wrong, tmp_path)
    with pytest.raises(BadProfile, match="gives no network profile"):
        profile_at("http://127.0.0.1:1/net.json", tmp_path)


def test_a_url_that_leads_over_plain_http_is_not_followed_though_it_ends_well(
    profile: NetworkProfile, tmp_path: Path
) -> None:
    ways = {"/net.json": "http://127.0.0.2:{}/plain", "/plain": "http://127.0.0.1:{}/end"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            way = ways.get(self.path)
            self.send_response(302 if way else 200)
            if way:
                self.send_header("Location", way.format(server.server_port))
            self.end_headers()
            self.wfile.write(b"" if way else raw(profile))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        at = f"http://127.0.0.1:{server.server_port}"
        assert profile_at(f"{at}/end", tmp_path) == profile
        with pytest.raises(BadProfile, match="not https"):
            profile_at(f"{at}/net.json", tmp_path)
        server.shutdown()
        thread.join()


def test_a_profile_that_cannot_be_kept_is_a_sentence(
    profile: NetworkProfile, tmp_path: Path, serve: Callable[[bytes], str]
) -> None:
    (tmp_path / "profiles").write_text("no folder")
    with pytest.raises(BadProfile, match="cannot be kept"):
        profile_at(serve(raw(profile)), tmp_path)


KEY, OTHER = coincurve.PrivateKey(b"\x01" * 32), coincurve.PrivateKey(b"\x02" * 32)


def test_signed_names_come_back_and_stand_for_nothing_else(profile: NetworkProfile, tmp_path: Path) -> None:
    signed = profile.signed_with(KEY, 1000)
    assert NetworkProfile.parse(raw(signed), "net.json") == signed
    assert signed.signed is not None
    assert signed.signed.signer == address_of(KEY)
    renamed = replace(SMOLLM2, model_id=VERSE.model_id)
    registry = profile.contracts["registry"]
    for other in (
        replace(signed, models=(renamed, VERSE)),
        replace(signed, models=(SMOLLM2,)),
        replace(signed, chain_id=profile.chain_id + 1),
        replace(
            signed, contracts=profile.contracts | {"registry": replace(registry, address=address_of(OTHER))}
        ),
        replace(signed, signed=replace(signed.signed, signer=address_of(OTHER))),
        replace(signed, signed=replace(signed.signed, issued=1001)),
        replace(signed, signed=replace(signed.signed, signature=bytes(64))),
        replace(signed, signed=replace(signed.signed, signature=b"")),
    ):
        with pytest.raises(BadProfile, match=r"signed|signature"):
            NetworkProfile.parse(raw(other), "net.json")


@pytest.mark.parametrize("signed", [1, [], {}, {"signer": "0x", "issued": 1, "signature": ""}, {"signer": 1}])
def test_what_is_no_signature_is_a_sentence(profile: NetworkProfile, signed: Any) -> None:
    document = profile.document() | {"signed": signed}
    with pytest.raises(BadProfile, match=r"\.$"):
        NetworkProfile.parse(json.dumps(document).encode(), "net.json")


def test_a_url_may_not_change_who_signs_its_names_nor_go_back(
    profile: NetworkProfile, tmp_path: Path, serve: Callable[[bytes], str]
) -> None:
    url = serve(raw(profile))
    assert profile_at(url, tmp_path) == profile  # unsigned until somebody signs
    first = profile.signed_with(KEY, 1000)
    serve(raw(first))
    assert profile_at(url, tmp_path) == first
    fewer = replace(profile, models=(SMOLLM2,))
    for changed_, why in (
        (fewer, "signed by nobody"),
        (fewer.signed_with(OTHER, 2000), "had signed them"),
        (fewer.signed_with(KEY, 999), "out of date"),
    ):
        serve(raw(changed_))
        with pytest.raises(BadProfile, match=why):
            profile_at(url, tmp_path)
    later = fewer.signed_with(KEY, 1001)
    serve(raw(later))
    assert profile_at(url, tmp_path) == later


def test_names_are_signed_and_listed_with_who_signed(profile: NetworkProfile, tmp_path: Path) -> None:
    key = keys.create(tmp_path, keys.Key.OPERATOR, "open sesame", work=2)
    (tmp_path / "password").write_text("open sesame\n")
    file = tmp_path / "net.json"
    replace(profile, bootstrap=()).save(file)
    home = {"HC_HOME": str(tmp_path), "HC_PASSWORD_FILE": str(tmp_path / "password"), "COLUMNS": "200"}

    def hc_model(*words: str) -> str:
        command = [sys.executable, "-m", "hypercluster.node.cli.model", *words]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, env={**os.environ, **home}, timeout=300
        ).stdout

    assert "signed by nobody" in hc_model("list", "--here", "--profile", str(file))
    assert json.loads(hc_model("sign", str(file), "--json"))["signer"] == key.address
    assert profile_at(str(file), tmp_path).models == profile.models
    assert f"signed by {key.address}" in hc_model("list", "--here", "--profile", str(file))
    listed = json.loads(hc_model("list", "--here", "--profile", str(file), "--json"))
    assert {each["signed_by"] for each in listed} == {key.address}
    document = json.loads(file.read_text())
    document["models"].pop()
    file.write_text(json.dumps(document))
    with pytest.raises(BadProfile, match="changed them"):
        profile_at(str(file), tmp_path)
    hc_model("sign", str(file))
    assert len(profile_at(str(file), tmp_path).models) == len(profile.models) - 1
