"""Vocabularies with the control tokens of well-known models, and the chat templates that go with them."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from gguf.constants import GGUFValueType

from hypercluster.node.engine.tokenizer import Tokenizer
from hypercluster.node.shards.writing import Value, int32s, text, texts, uint32, write_gguf
from tests.node.helpers.random_models import BYTE_TOKENS, MERGES

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 "
    "%}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}{% if (message['role'] == 'assistant') %}"
    "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
QWEN = """\
{%- if tools %}
    {{- '<|im_start|>system\\n# Tools\\n' }}
    {%- for tool in tools %}{{- "\\n" }}{{- tool | tojson }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- generation %}
        {%- set reasoning_content = '' %}
        {%- if '</think>' in content %}
            {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- if message.tool_calls %}{{- raise_exception('none here') }}{%- endif %}
        {{- '<|im_end|>\\n' }}
        {%- endgeneration %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""  # noqa: E501


@dataclass(frozen=True)
class Family:
    """A tokenizer and template; `special` are tokens beyond letters with their types, the first is BOS, then EOS."""

    template: str
    special: dict[str, int]
    sentencepiece: bool = False
    add_bos: bool = False

    def tokenizer(self, folder: Path) -> Tokenizer:
        """The vocabulary, written and opened."""
        return Tokenizer(write_gguf(folder / "vocab.gguf", self.metadata(), ()))

    @property
    def n_vocab(self) -> int:
        """Tokens of it."""
        return len(self._pairs())

    def metadata(self) -> dict[str, Value]:
        """Of a model with this tokenizer."""
        pairs = self._pairs()
        if self.sentencepiece:
            kind = {"tokenizer.ggml.scores": _floats([-float(i) for i in range(len(pairs))])}
        else:
            kind = {"tokenizer.ggml.pre": text("default"), "tokenizer.ggml.merges": texts(MERGES)}
        bos = int(self.sentencepiece)
        return kind | {
            "general.architecture": text("llama"),
            "tokenizer.ggml.model": text("llama" if self.sentencepiece else "gpt2"),
            "tokenizer.ggml.tokens": texts([token for token, _ in pairs]),
            "tokenizer.ggml.token_type": int32s([type_ for _, type_ in pairs]),
            "tokenizer.ggml.bos_token_id": uint32(bos),
            "tokenizer.ggml.eos_token_id": uint32(bos + 1),
            "tokenizer.ggml.add_bos_token": Value(GGUFValueType.BOOL, bytes([self.add_bos])),
            "tokenizer.chat_template": text(self.template),
        }

    def _pairs(self) -> list[tuple[str, int]]:
        """All tokens with their types."""
        if self.sentencepiece:
            pairs = [("<unk>", UNKNOWN), *self.special.items(), *((f"<0x{i:02X}>", BYTE) for i in range(256))]
            return pairs + [(letter, NORMAL) for letter in "▁abcdefghijklmnopqrstuvwxyz<>|[]/_ST"]
        merged = [merge.replace(" ", "") for merge in MERGES]
        return [*self.special.items(), *((token, NORMAL) for token in BYTE_TOKENS + merged)]


def _floats(values: list[float]) -> Value:
    raw = struct.pack(f"<IQ{len(values)}f", GGUFValueType.FLOAT32, len(values), *values)
    return Value(GGUFValueType.ARRAY, raw)


FAMILIES = {
    "chatml": Family(CHATML, {"<|endoftext|>": CONTROL, "<|im_end|>": CONTROL, "<|im_start|>": CONTROL}),
    "chatml-of-old-files": Family(
        CHATML, {"<|endoftext|>": CONTROL, "<|im_end|>": USER_DEFINED, "<|im_start|>": USER_DEFINED}
    ),
    "llama-3": Family(
        LLAMA_3,
        dict.fromkeys(
            ("<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"), CONTROL
        ),
        add_bos=True,
    ),
    "mistral": Family(
        MISTRAL,
        dict.fromkeys(("<s>", "</s>", "[INST]", "[/INST]"), CONTROL),
        sentencepiece=True,
        add_bos=True,
    ),
    "gemma": Family(
        GEMMA,
        dict.fromkeys(("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"), CONTROL),
        sentencepiece=True,
        add_bos=True,
    ),
    "qwen": Family(
        QWEN,
        dict.fromkeys(("<|endoftext|>", "<|im_end|>", "<|im_start|>"), CONTROL)
        | dict.fromkeys(("<think>", "</think>", "<tool_response>", "</tool_response>"), USER_DEFINED),
    ),
}
