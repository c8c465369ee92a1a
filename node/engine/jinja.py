"""Runs a chat template as a process of its own: `python jinja.py < job > results`, both JSON.

A template comes from strangers and may never end, or double a text until the memory is gone. What the engine's
fuel does not bound, the operating system does; on Windows only whoever waits for it bounds its time. Nothing of ours is
imported here, so that it starts at once.
"""

import json
import re
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any, NoReturn

import minijinja

if sys.platform != "win32":
    import resource

FUEL = 5_000_000  # instructions of one rendering
SECONDS = 5  # of processor time
MEMORY = 1 << 30  # bytes
_GENERATION = re.compile(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")

_BROKEN = (
    minijinja.TemplateError,
    ArithmeticError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class TemplateRefused(Exception):
    """The template itself refuses the chat."""


def results(job: dict[str, Any]) -> list[dict[str, str]]:
    """For each of the job's `chats` its `text`, or why it was `refused` by the template, or how that is `broken`.

    `template` is the template, `variables` what it sees beside what a chat has, `characters` the longest text.
    """
    environment = minijinja.Environment(
        trim_blocks=True,
        lstrip_blocks=True,
        fuel=FUEL,
        filters={"tojson": _to_json},
        globals={"raise_exception": _refuse, "strftime_now": _now},
    )
    template = _GENERATION.sub(_without_marks, job["template"])
    found = []
    for chat in job["chats"]:
        try:
            text = environment.render_str(template, **job["variables"], **chat)
        except TemplateRefused as error:
            found.append({"refused": str(error)})
        except _BROKEN as error:
            found.append({"broken": str(error).split("\n", 1)[0]})
        else:
            long = len(text) > job["characters"]
            found.append({"broken": f"it writes {len(text)} characters"} if long else {"text": text})
    return found


def _refuse(message: object) -> NoReturn:
    raise TemplateRefused(str(message))


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)


def _without_marks(tag: re.Match[str]) -> str:
    """Marks for training around what the assistant says write nothing, but may take away space around them."""
    return f"{{%{tag[1]} {'endif' if tag[2] else 'if true'} {tag[3]}%}}"


def _to_json(
    value: Any,
    indent: int | None = None,
    ensure_ascii: bool = False,
    separators: list[str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As Hugging Face's, which unlike Jinja's own escapes nothing for HTML."""
    return json.dumps(
        value,
        indent=indent,
        ensure_ascii=ensure_ascii,
        separators=(separators[0], separators[1]) if separators else None,
        sort_keys=sort_keys,
    )


if __name__ == "__main__":
    if sys.platform != "win32":
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    json.dump(results(json.load(sys.stdin)), sys.stdout)
