"""llm as people use it, by its command line, with the gateway named in extra-openai-models.yaml."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from given import COUNT, KEY, MODEL, POOR_KEY, QUESTION, REVOKED_KEY, URL, fact, tell

HOME = Path(tempfile.mkdtemp())
FLAGS = "vision: false\n  supports_schema: true\n  supports_tools: true"
(HOME / "extra-openai-models.yaml").write_text(
    "".join(
        f"- model_id: {name}\n  model_name: {MODEL}\n  api_base: {URL}/v1\n  api_key_name: {name}\n  {FLAGS}\n"
        for name in ("hc", "hc-poor", "hc-revoked")
    )
    + f"- model_id: hc-text\n  model_name: {MODEL}\n  api_base: {URL}/v1\n  api_key_name: hc\n  completion: true\n"
)
(HOME / "keys.json").write_text(json.dumps({"hc": KEY, "hc-poor": POOR_KEY, "hc-revoked": REVOKED_KEY}))
BRIEF = ("-s", "Be brief.", "-o", "temperature", "0")
SCHEMA = {
    "type": "object",
    "properties": {"name": {"enum": ["Paris", "Rome"]}, "rivers": {"enum": [1, 2, 3]}},
    "required": ["name", "rivers"],
    "additionalProperties": False,
}


def llm(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    """Start the command."""
    environment = {**os.environ, "LLM_USER_PATH": str(HOME)}
    command = [sys.executable, "-m", "llm", *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, stdin=subprocess.DEVNULL, env=environment, text=True
    )


def said(*arguments: str) -> Any:
    """Run the command to its end."""
    process = llm(*arguments)
    out, err = process.communicate(timeout=600)
    return {"code": process.returncode, "out": out, "err": err[-600:]}


@fact("stream")
def _() -> Any:
    return said("-m", "hc", "-s", "Be brief.", "-o", "temperature", "0", "-o", "max_tokens", "12", QUESTION)


@fact("chat")
def _() -> Any:
    return said("-m", "hc", "--no-stream", "-o", "temperature", "0", "-o", "max_tokens", "12", "-u", QUESTION)


@fact("schema")
def _() -> Any:
    options = ("-o", "temperature", "0", "-o", "max_tokens", "60")
    return said("-m", "hc", "--schema", json.dumps(SCHEMA), *options, QUESTION)


@fact("stop")
def _() -> Any:
    return said("-m", "hc", *BRIEF, "-o", "stop", "Paris", "-o", "max_tokens", "40", QUESTION)


@fact("completions")
def _() -> Any:
    return said(
        "-m", "hc-text", "-o", "temperature", "0", "-o", "max_tokens", "4", "The capital of France is"
    )


@fact("cancel")
def _() -> Any:
    process = llm("-m", "hc", "-o", "temperature", "0", "-o", "max_tokens", "2000", COUNT)
    assert process.stdout is not None
    read = process.stdout.read(4)
    process.terminate()
    process.communicate()
    return {"read": len(read)}


@fact("budget")
def _() -> Any:
    return said("-m", "hc-poor", QUESTION)


@fact("revoked")
def _() -> Any:
    return said("-m", "hc-revoked", QUESTION)


tell()
