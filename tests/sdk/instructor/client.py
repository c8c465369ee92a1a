"""instructor: a typed answer through tools, through a JSON schema and through JSON mode, whole and in parts."""

from typing import Any, Literal

import instructor
import openai
from given import KEY, MODEL, POOR_KEY, QUESTION, REVOKED_KEY, URL, fact, tell
from pydantic import BaseModel, ConfigDict

MODES = (instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA)


class Town(BaseModel):
    """A town."""

    model_config = ConfigDict(extra="forbid")
    name: Literal["Paris", "Rome"]
    rivers: Literal[1, 2, 3]


def client(key: str, mode: instructor.Mode) -> Any:
    """A client of instructor over openai's."""
    return instructor.from_openai(openai.OpenAI(base_url=f"{URL}/v1", api_key=key), mode=mode)


ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": QUESTION}],
    "temperature": 0,
    "max_tokens": 100,
}


@fact("typed")
def _() -> Any:
    made = {}
    for mode in MODES:
        town = client(KEY, mode).chat.completions.create(**ASK, response_model=Town, max_retries=0)
        made[mode.name] = town.model_dump()
    return made


@fact("bill")
def _() -> Any:
    create = client(KEY, instructor.Mode.JSON_SCHEMA).chat.completions.create_with_completion
    _, whole = create(**ASK, response_model=Town, max_retries=0)
    return whole.model_dump()["usage"]


@fact("partial")
def _() -> Any:
    create = client(KEY, instructor.Mode.JSON_SCHEMA).chat.completions.create_partial
    parts = [part.model_dump() for part in create(**ASK, response_model=Town, max_retries=0)]
    return {"parts": len(parts), "last": parts[-1]}


def refused(key: str) -> Any:
    """The refusal as this client raises it; the status is openai's below."""
    try:
        client(key, instructor.Mode.TOOLS).chat.completions.create(**ASK, response_model=Town, max_retries=0)
    except Exception as error:
        link: BaseException | None = error
        while link is not None:
            if isinstance(link, openai.APIStatusError):
                return {"status": link.status_code, "code": link.code}
            link = link.__cause__ or link.__context__
        return {"status": None, "text": str(error)[:400]}
    return {"status": 200}


@fact("budget")
def _() -> Any:
    return refused(POOR_KEY)


@fact("revoked")
def _() -> Any:
    return refused(REVOKED_KEY)


tell()
