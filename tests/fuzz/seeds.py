"""The corpus from real things: python -m tests.fuzz.seeds writes tests/fuzz/corpus/<decoder>/<name>.

What is there under other names stays: inputs that a decoder did not take as it should once (crash-...).
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import rlp  # type: ignore[import-untyped]
from coincurve import PrivateKey

from hypercluster.market.advert import Advert
from hypercluster.market.chain import header
from hypercluster.market.chain.deployment import Deployment
from hypercluster.market.economics.advert_file import AdvertFile, save_adverts
from hypercluster.market.economics.graph import Node
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.ledger.voucher_journal import VoucherJournal
from hypercluster.market.money.keystore import create_key
from hypercluster.market.money.signing import checksum, keccak, sign_compact
from hypercluster.market.money.voucher import ChannelDescriptor, Quote, VoucherDomain
from hypercluster.market.trust import merkle
from hypercluster.market.trust.audit import Bounds, Thresholds
from hypercluster.market.trust.fingerprint import fingerprint
from hypercluster.market.trust.receipt import Finding, Receipt
from hypercluster.node.catalogue import CATALOGUE
from hypercluster.node.client.journal import Journal
from hypercluster.node.errors import ErrorCode
from hypercluster.node.evidence.bundle import Bundle, PaidSession, pack_step, write_bundle
from hypercluster.node.evidence.receipts import ReceiptChain
from hypercluster.node.evidence.rumour import _verdict, contradiction, testified
from hypercluster.node.home import backup
from hypercluster.node.home.policy import POLICY, WalletPolicy, save_policy
from hypercluster.node.home.profile import ContractAt, NetworkProfile
from hypercluster.node.identity import peer_of_key
from hypercluster.node.network.adverts import sign_advert
from hypercluster.node.network.memory import Memory
from hypercluster.node.network.nearness import pack_delays
from hypercluster.node.rows import TopK, WireDtype, pack_activations, pack_topk
from hypercluster.node.shards.certificate import Certificate, Figures
from hypercluster.node.shards.digests import digest
from hypercluster.node.shards.model import check_source
from hypercluster.node.wire.audit import AuditEnd, AuditOpen, AuditVerdict, Recall, Recalled
from hypercluster.node.wire.blocks import BlocksAnswer, BlocksAsked, Held, encode_blocks
from hypercluster.node.wire.codec import Message, encode
from hypercluster.node.wire.framing import encode_length
from hypercluster.node.wire.links import Discard, Expect, Link, LinkOpen, LinkTaken, NoRows, Rows, Show
from hypercluster.node.wire.messages import Accept, Close, Error, Open, Parked, Step, StepResult
from hypercluster.node.wire.records import AuditStep, StageRecord, StepRoots
from hypercluster.node.wire.rumours import Rumour, Testimony
from tests.fuzz.decoder import CORPUS
from tests.fuzz.from_files import MODEL_ID, PASSWORD
from tests.fuzz.from_peers import DISPUTES, KEY, NOW, WIDTH
from tests.node.helpers.random_models import Shape, write_random_model

PEER = peer_of_key(KEY.secret)
A = checksum(bytes([17]) * 20)
CHANNEL = ChannelDescriptor(A, A, A, bytes(32))
OPEN = Open(
    session=b"s" * 16,
    model_id=MODEL_ID,
    layer_start=0,
    layer_stop=4,
    channel=CHANNEL,
    wire_dtype=WireDtype.F32,
    capacity=100,
    max_price_wei=10**15,
    max_prompt_price_wei=10**15,
    top_k=2,
    resume=b"t" * 16,
    position=7,
    max_cached_price_wei=10**14,
    branch=3,
)
STAGE = StageRecord(
    session=b"s" * 16,
    nonce=b"n" * 16,
    channel_id=b"c" * 32,
    model_id=MODEL_ID,
    layer_start=0,
    layer_stop=4,
    wire_dtype=WireDtype.F32,
    profile='{"threads":1}',
    peer=PEER,
    client=PEER,
    top_k=2,
)
CANDIDATES = pack_topk(TopK(np.array([[1, 2]], np.int32), np.array([[3, 2]], np.float32), np.array([4.0])))
TOKENS = np.array([1, 2], "<u4").tobytes()


def advert() -> Advert:
    return Advert(
        peer=PEER,
        model_id=MODEL_ID,
        layer_start=0,
        layer_stop=4,
        price_wei=1000,
        prompt_price_wei=200,
        cost_ms=1.5,
        prompt_ms=0.2,
        operator=A,
        capacity=4,
        free=3,
        session_tokens=100,
        max_top_k=64,
        sequence=NOW * 1000,
        issued=NOW,
        expires=NOW + 3600,
        width=64,
        addrs=("/ip4/127.0.0.1/tcp/1", "/dns4/node.example/tcp/2"),
        direct="/ip4/127.0.0.1/tcp/2",
        wire_dtypes=("f32", "f16"),
        features=("rewind",),
        neighbours=pack_delays({"a": 1.5, "b": 40.0}),
    )


def step() -> AuditStep:
    """Signed as its provider signs."""
    plain = AuditStep(
        seq=0, position=0, rows=2, outputs=1, input=TOKENS, output=CANDIDATES, issued=NOW, receipt=b"r" * 64
    )
    receipt = ReceiptChain(STAGE.stage, DISPUTES).next(plain)
    signature = DISPUTES.sign(KEY, receipt.struct_hash())
    return AuditStep(
        seq=0, position=0, rows=2, outputs=1, input=TOKENS, output=CANDIDATES, issued=NOW, receipt=signature
    )


def messages() -> Iterator[Message]:
    yield OPEN
    yield Step(seq=1, position=2, rows=2, cumulative_wei=10**17, signature=b"s" * 64, input=TOKENS)
    yield Step(
        seq=4, position=2, rows=2, cumulative_wei=10**17, signature=b"s" * 64, input=b"", awaited=7, epoch=3
    )
    yield Close(park=True)
    yield Parked(600)
    yield Accept(
        price_wei=1,
        prompt_price_wei=1,
        capacity=10,
        expires=NOW,
        quote_signature=b"q" * 64,
        paid_wei=1,
        paid_signature=b"p" * 64,
        billed_wei=1,
        max_step_tokens=64,
        width=64,
        nonce=b"n" * 16,
        profile="{}",
    )
    yield StepResult(
        seq=0, rows=1, billed_wei=3, compute_ms=1.0, issued=NOW, receipt=b"r" * 64, output=CANDIDATES
    )
    yield StepResult(
        seq=2,
        rows=1,
        billed_wei=3,
        compute_ms=1.0,
        issued=NOW,
        receipt=b"r" * 64,
        output=CANDIDATES,
        inherited=b"i" * 128,
    )
    yield Error(ErrorCode.FULL, "Come again.", 0, 1000.0)
    yield Link(PEER, "/ip4/127.0.0.1/tcp/2", b"t" * 16)
    yield Expect(PEER, b"t" * 16)
    yield LinkOpen(b"t" * 16)
    yield LinkTaken()
    yield Rows(3, 2, bytes(2 * 4 * WIDTH))
    yield NoRows(3, ErrorCode.TIMEOUT, 5)
    yield Show(3)
    yield Discard(3)
    yield Discard(0, 2)
    yield StepRoots(1, 2, 2, 2, b"", b"", b"i" * 32, b"o" * 32, NOW, b"r" * 64)
    yield STAGE
    yield Recall(b"h" * 32, 3)
    yield Recalled(step(), b"p" * 32)
    yield AuditOpen(OPEN, b"j" * 32, "{}", 5, STAGE, b"p" * 64)
    yield step()
    yield AuditEnd()
    yield AuditVerdict(
        Finding.PASS, 0.1, 0.2, 0.3, True, 10_000, fingerprint(_ones(), bytes(32)), NOW, b"v" * 64, 4
    )
    yield sign_advert(advert(), KEY.secret)
    yield from rumours()


def rumours() -> Iterator[Rumour]:
    """One that proves itself, and one that a verifier testifies."""
    twice = [replace(step(), issued=NOW + late) for late in (0, 1)]
    twice[1] = replace(twice[1], output=CANDIDATES[::-1])
    receipts = [ReceiptChain(STAGE.stage, DISPUTES).next(each) for each in twice]
    signed = [(each, DISPUTES.sign(KEY, each.struct_hash())) for each in receipts]
    yield contradiction(STAGE, A, signed[0], signed[1])
    witness = PrivateKey(bytes([8]) * 32)
    said = Testimony(
        witness="0x" + "22" * 20,
        verifier=peer_of_key(witness.secret),
        tail=True,
        tolerance=10_000,
        fingerprint=b"f" * 32,
        job=b"j" * 32,
        issued=NOW,
        signature=b"s" * 64,
    )
    plain = testified(STAGE, A, signed[0], said)
    verdict = _verdict(plain, said).struct_hash()
    yield testified(STAGE, A, signed[0], replace(said, signature=DISPUTES.sign(witness, verdict)))


def _ones() -> np.ndarray:
    return np.ones((2, WIDTH), np.float32)


def bundle() -> bytes:
    payments = VoucherDomain(A, 1)
    served = step()
    receipt: Receipt = ReceiptChain(STAGE.stage, DISPUTES).next(served)
    quote = OPEN.quote(STAGE.channel_id, price_wei=1, prompt_price_wei=1, capacity=10, expires=NOW)
    assert isinstance(quote, Quote)
    session = PaidSession(
        record=STAGE,
        channel=CHANNEL,
        quote=quote,
        quote_signature=payments.sign_quote(KEY, quote),
        packed=pack_step(receipt, served.receipt, 5, b"v" * 64),
        cost_wei=5,
        risked_wei=0,
    )
    return write_bundle(
        Bundle(
            request_id="ab" * 8,
            model_id=MODEL_ID,
            made=NOW,
            cost_wei=5,
            risked_wei=0,
            payments=payments,
            disputes=DISPUTES,
            sessions=(session,),
        ),
        KEY,
    )


def recording(model_id: str) -> bytes:
    ids = np.arange(6, dtype=np.int32).reshape(1, 3, 2)
    with io.BytesIO() as file:
        np.savez(
            file,
            model_id=np.array(model_id),
            profile=np.array("{}"),
            texts=np.array([[1, 2, 3]]),
            body=np.ones((1, 3, 4), np.float32),
            ids=ids,
            logits=ids.astype(np.float32),
            logsumexp=np.ones((1, 3)),
        )
        return file.getvalue()


CHAT = {
    "model": "demo",
    "messages": [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city":"Oslo"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "rain"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "d",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            },
        }
    ],
    "tool_choice": "auto",
    "max_tokens": 10,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["\n"],
    "seed": 1,
    "n": 2,
    "stream": True,
    "stream_options": {"include_usage": True},
    "logit_bias": {"5": -1},
    "logprobs": True,
    "top_logprobs": 3,
    "max_cost": "0.1",
    "provider": {"sort": "price", "ignore": ["x"], "max_price": {"prompt": 1, "completion": "0.5"}},
}
BODIES: dict[str, list[dict[str, object]]] = {
    "openai_chat": [
        CHAT,
        {
            "model": "demo",
            "messages": [{"role": "user", "content": "hi"}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
            },
        },
    ],
    "openai_completion": [
        {"model": "demo", "prompt": ["hi", "ho"], "max_tokens": 5, "logprobs": 2, "echo": True, "best_of": 1},
        {"model": "demo", "prompt": [[1, 2], [3]], "stream": False, "n": 1},
    ],
    "openai_response": [
        {
            "model": "demo",
            "instructions": "Be short.",
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
                {"type": "function_call", "call_id": "a", "name": "get_weather", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "a", "output": "rain"},
                {"type": "item_reference", "id": "x"},
            ],
            "tools": [{"type": "function", "name": "get_weather", "parameters": {"type": "object"}}],
            "text": {"format": {"type": "text"}},
            "reasoning": {"effort": "low"},
            "max_output_tokens": 10,
            "include": ["message.output_text.logprobs"],
        },
        {"model": "demo", "input": "hi", "store": False},
    ],
    "anthropic_message": [
        {
            "model": "demo",
            "max_tokens": 10,
            "system": [{"type": "text", "text": "Be short."}],
            "messages": [
                {"role": "user", "content": "hi"},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "text", "text": "x"},
                        {"type": "tool_use", "id": "a", "name": "get_weather", "input": {"city": "Oslo"}},
                    ],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": "rain"}]},
            ],
            "tools": [{"name": "get_weather", "description": "d", "input_schema": {"type": "object"}}],
            "tool_choice": {"type": "auto"},
            "stop_sequences": ["\n"],
            "thinking": {"type": "enabled", "budget_tokens": 1024},
            "temperature": 1,
        }
    ],
    "ollama_chat": [
        {
            "model": "demo",
            "messages": [{"role": "user", "content": "hi", "images": []}],
            "options": {"temperature": 0.1, "num_predict": 5, "stop": ["x"], "seed": 1, "top_k": 5},
            "format": "json",
            "stream": False,
            "keep_alive": "5m",
            "think": False,
            "tools": CHAT["tools"],
        }
    ],
    "ollama_generate": [
        {
            "model": "demo",
            "prompt": "hi",
            "system": "s",
            "raw": True,
            "options": {"num_ctx": 10},
            "suffix": "",
        }
    ],
}
REPLIES = {
    "hermes": '<think>so</think>\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call> x',
    "llama": '<|python_tag|>{"name": "look_up", "parameters": {"q": ["a", 1.5, null]}}; {"name": "look_up"}',
    "mistral": '[TOOL_CALLS] [{"name": "look_up", "arguments": "{\\"q\\": 1}"}, {"name": "get_weather"}] x',
    "generic": 'Well.\n{"name": "get_weather", "arguments": {"city": "}"}}\nThat is all.',
}


def files(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Decoder, name and bytes of what is best written by its own code."""
    model = write_random_model(
        folder / "tiny.gguf", Shape(layers=2, n_embd=32, heads=2, kv_heads=1, n_ff=32, n_vocab=264, tied=True)
    )
    yield "model", "tiny", model.read_bytes()
    manifest, hashes = digest(check_source(model))
    yield "blocks", "tiny", hashes.save(folder / "blocks.bin", manifest).read_bytes()
    yield "manifest", "tiny", manifest.save(folder / "manifest.json").read_bytes()
    yield "recording", "tiny", recording(manifest.model_id)
    deployment = Deployment(1, A, A, A, A, A, A)
    deployment.save(folder / "deployment.json")
    yield "deployment", "local", (folder / "deployment.json").read_bytes()
    contracts = {
        name: ContractAt(A, "ab" * 32)
        for name in ("token", "registry", "channels", "cases", "proofs", "demands")
    }
    profile = NetworkProfile(
        name="test",
        chain_id=1,
        rpc_url="https://rpc.example",
        contracts=contracts,
        bootstrap=(f"/ip4/127.0.0.1/tcp/1/p2p/{PEER}",),
        models=CATALOGUE.models,
    )
    profile.save(folder / "profile.json")
    yield "profile", "network", (folder / "profile.json").read_bytes()
    profile.signed_with(KEY, 1_760_000_000).save(folder / "profile.json")
    yield "profile", "signed", (folder / "profile.json").read_bytes()
    save_policy(folder, WalletPolicy())
    yield "policy", "written", (folder / "policy.toml").read_bytes()
    create_key(folder / "key.json", PASSWORD, secret=KEY.secret, work=2)
    yield "keystore", "key", (folder / "key.json").read_bytes()
    memory = Memory(folder / "peers.json")
    memory.keep(MODEL_ID, [sign_advert(advert(), KEY.secret)], {PEER: ("/ip4/127.0.0.1/tcp/1",)})
    yield "peers_file", "kept", (folder / "peers.json").read_bytes()
    journal = Journal(folder / "vouchers.journal")
    journal.begun("ab")
    journal.signed(b"c" * 32, "ab", 5, 7)
    journal.answered(b"c" * 32, "ab", 5, 7)
    yield "journal", "one_request", (folder / "vouchers.journal").read_bytes()
    journal.close()
    vouchers = VoucherJournal(folder / "ledger.sqlite-vouchers")
    vouchers.keep([(b"c" * 32, 7, b"s" * 64, 5), (b"d" * 32, 9, b"", 9)])
    yield "voucher_journal", "two_channels", (folder / "ledger.sqlite-vouchers").read_bytes()
    vouchers.close()
    limits = Thresholds(0.01, 0.02, 0.9, 0.1, 0.2, 0.5)
    tiers = {"prefill": limits, "replay": limits, "foreign": limits}
    bounds = Bounds(MODEL_ID, {"body": tiers, "tail": tiers}, ())  # type: ignore[dict-item]
    bounds.save(folder / "bounds.json")
    yield "bounds", "measured", (folder / "bounds.json").read_bytes()
    figures = Figures(dtype="q8", cuts=3, tokens=4096, agreement=0.995, perplexity=10.01, plain=10.0)
    yield "certificate", "measured", Certificate(MODEL_ID, (figures,)).save(folder).read_bytes()
    nodes = tuple(
        Node(id=name, start=start, stop=start + 2, price_wei=10, cost_ms=1.0, capacity=2, free=1)
        for name, start in (("a", 0), ("b", 2))
    )
    save_adverts(folder / "adverts.json", AdvertFile(4, nodes, {("a", "b"): 1.0}, MarketParameters()))
    yield "adverts_file", "two", (folder / "adverts.json").read_bytes()


def inputs(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Decoder, name and bytes of the whole corpus."""
    frames = b""
    for number, rumour in enumerate(rumours()):
        yield "rumour", str(number), encode(rumour)
    for message in messages():
        data = encode(message)
        yield "message", type(message).__name__, data
        frames += encode_length(len(data)) + data
    yield "frames", "all", frames
    yield (
        "packets",
        "all",
        b"".join(len(each).to_bytes(2) + each for each in (b"", b"a" * 300, frames[:5000])),
    )
    signed = sign_advert(advert(), KEY.secret)
    yield "advert", "provider", signed.body
    yield "signed_advert", "provider", signed.body
    yield "rows", "candidates", b"\x02\x01" + CANDIDATES
    yield "rows", "tokens", b"\x04\x02" + TOKENS
    yield "rows", "f32", b"\x00\x02" + _ones().tobytes()
    yield (
        "rows",
        "f32-tokens",
        b"\x08\x02" + b"".join(bytes(4 * WIDTH) + bytes([at, 0, 0, 0]) for at in (1, 2)),
    )
    yield "rows", "f16", b"\x01\x02" + _ones().astype("<f2").tobytes()
    yield "rows", "q8", b"\x10\x02" + pack_activations(np.ones((2, 32), np.float32), WireDtype.Q8)
    yield "receipts", "stage", encode(STAGE)
    yield "receipts", "step", encode(step())
    served = {"model_id": MODEL_ID, "name": "demo", "layers": 4}
    yield "hello", "greeting", json.dumps({"time": NOW, "serves": served, "knows": [served]}).encode()
    for name, each in (
        ("asked", BlocksAsked("ab" * 32, "blocks", "blk.3.ffn_up.weight", 16, 16)),
        ("answered", BlocksAnswer(1 << 20)),
        ("refused", BlocksAnswer(refused="Too many here now.", wait=3)),
        ("held", Held(((0, 4), (8, 12)), ("token_embd.weight", "output_norm.weight"))),
    ):
        yield "blocks_message", name, encode_blocks(each)
    yield "dialback_request", "asked", b'{"addrs": ["/ip4/127.0.0.1/tcp/1"], "direct": ""}'
    yield "dialback_answer", "answered", b'{"answers": {"/ip4/127.0.0.1/tcp/1": "reached"}}'
    for number, address in enumerate(
        (
            f"/ip4/127.0.0.1/tcp/4001/p2p/{PEER}",
            "/ip6/::1/tcp/1",
            "/dns4/node.example.org/tcp/4001",
            f"/dnsaddr/example.org/p2p/{PEER}",
        )
    ):
        yield "address", str(number), address.encode()
    yield "peer", "peer", PEER.encode()
    yield "signature", "good", sign_compact(KEY, keccak(b"x"))
    yield "rows_proof", "four", b"\x04" * 64
    yield "fingerprint", "two", fingerprint(_ones(), bytes(32))
    assert merkle.split_rows(b"\x04" * 64, 4)
    step_frame = encode(step())
    stage_frame = encode(STAGE)
    yield (
        "transcript",
        "stage_and_step",
        (encode_length(len(stage_frame)) + stage_frame + encode_length(len(step_frame)) + step_frame),
    )
    yield "bundle", "one_session", bundle()
    yield (
        "config",
        "some",
        b'rpc_url = "https://rpc.example"\n[provider]\nlayers = "0:8"\nlisten = ["/ip4/0.0.0.0/tcp/4001"]\n',
    )
    yield (
        "dotenv",
        "some",
        b"HC_RPC_URL=https://rpc.example\nHC_HOME='/tmp/x'\nHC_MDNS=true\nexport HC_LOG_LEVEL=info\n",
    )
    yield (
        "last_run",
        "provider",
        b'{"listen": ["/ip4/0.0.0.0/tcp/4001"], "direct": "", "price_wei": 5, "hct_per_coin": 1000}',
    )
    yield (
        "holder",
        "provider",
        b'{"pid": 1, "program": "hc-provider", "home": "/tmp/x", "since": "2026-01-01"}',
    )
    yield "running_file", "provider", json.dumps(
        {"role": "provider", "peer": PEER, "addresses": ["/x"], "layers": [0, 4], "session_tokens": 5,
         "notices": [], "pid": 1, "since": ""}
    ).encode()  # fmt: skip
    yield (
        "link_file",
        "gateway",
        json.dumps({"url": "http://127.0.0.1:1", "secret": "ab" * 32, "pid": 1}).encode(),
    )
    yield (
        "door",
        "up",
        json.dumps(
            {"base_url": "http://127.0.0.1:1/v1", "key": "k", "models": ["demo"], "pid": 1, "since": 1.0}
        ).encode(),
    )
    yield "checked", "two", b'["ab12", "cd34"]'
    yield "backup", "policy", _backup()
    yield "block", "genesis", json.dumps(_block()).encode()
    yield "page", "password", b'{"password": "x", "tokens": 5}'
    for number, arguments in enumerate(
        ('{"city": "Oslo", "days": [1, 2.5, null, true]}', "", "[1]", '{"cut": "of')
    ):
        yield "arguments", str(number), arguments.encode()
    yield "no_model", "zip", b"PK\x03\x04" + bytes(20)
    yield "no_model", "safetensors", (100).to_bytes(8, "little") + b'{"__metadata__":{}}'
    for number, amount in enumerate(("0.5", "12", "1e3", "0.000000000000000001")):
        yield "amount", str(number), amount.encode()
    for number, layers in enumerate(("0:4", "0:8,8:32", "5")):
        yield "layers", str(number), layers.encode()
    for name, bodies in BODIES.items():
        for number, body in enumerate(bodies):
            yield name, str(number), json.dumps(body).encode()
    for name, reply in REPLIES.items():
        yield "reply", name, reply.encode()
    yield "revert", "error", b"0x08c379a0" + (b"0" * 62 + b"20" + b"0" * 62 + b"02" + b"6869" + b"0" * 60)
    yield "revert", "unknown", b"0xdeadbeef"
    yield from files(folder)


def _backup() -> bytes:
    """A home with nothing but a policy."""
    about = json.dumps({"format": backup.FORMAT, "files": [POLICY], "made": "2026-01-01T00:00:00+00:00"})
    told = io.BytesIO()
    with tarfile.open(fileobj=told, mode="w:gz") as archive:
        for name, text in ((POLICY, 'per_day = "1"'), (backup.ABOUT, about)):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    return told.getvalue()


def _block() -> dict[str, str]:
    """A block as a chain node shows it."""
    fields = dict.fromkeys(header._FIELDS[:-1], "0x" + "11" * 32) | dict.fromkeys(header._NUMBERS, "0x5")
    text = rlp.encode([header._field(name, fields[name]) for name in header._FIELDS if name in fields])
    return fields | {"hash": "0x" + keccak(text).hex()}


def main() -> None:
    """Write the corpus."""
    with tempfile.TemporaryDirectory() as folder:
        for decoder, name, data in inputs(Path(folder)):
            path = CORPUS / decoder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


if __name__ == "__main__":
    main()
