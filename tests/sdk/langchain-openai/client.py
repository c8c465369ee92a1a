"""langchain-openai: chat, streams, tools, structured output in three ways, and its refusals."""

from typing import Any, Literal

from given import COUNT, KEY, MODEL, POOR_KEY, QUESTION, REVOKED_KEY, URL, fact, tell
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
from pydantic import BaseModel, ConfigDict

BASE = f"{URL}/v1"
ASKED = [SystemMessage("Be brief."), HumanMessage(QUESTION)]
chat = ChatOpenAI(model=MODEL, base_url=BASE, api_key=KEY, temperature=0, max_tokens=12)
longer = ChatOpenAI(model=MODEL, base_url=BASE, api_key=KEY, temperature=0, max_tokens=100)


class Town(BaseModel):
    """A town."""

    model_config = ConfigDict(extra="forbid")
    name: Literal["Paris", "Rome"]
    rivers: Literal[1, 2, 3]


@tool
def weather(city: Literal["Paris", "Rome"]) -> str:
    """The weather in a city."""
    return f"It is sunny in {city}."


@fact("chat")
def _() -> Any:
    return chat.invoke(ASKED).model_dump()


@fact("stream")
def _() -> Any:
    pieces = list(chat.stream(ASKED, stream_usage=True))
    return {
        "pieces": [piece.content for piece in pieces],
        "usage": [piece.usage_metadata for piece in pieces],
    }


@fact("tools")
def _() -> Any:
    first = longer.bind_tools([weather], tool_choice="weather").invoke("How is the weather in Paris?")
    call = first.tool_calls[0]
    said = weather.invoke(call["args"])
    after = chat.invoke(
        [HumanMessage("How is the weather in Paris?"), first, ToolMessage(said, tool_call_id=call["id"])]
    )
    return {"call": call, "said": said, "after": after.content}


@fact("any_tool")
def _() -> Any:
    return (
        longer.bind_tools([weather], tool_choice="required").invoke("How is the weather in Rome?").tool_calls
    )


@fact("schema")
def _() -> Any:
    ways: tuple[Any, ...] = ("json_schema", "function_calling")
    return {
        way: longer.with_structured_output(Town, method=way).invoke(QUESTION).model_dump() for way in ways
    }


@fact("stop")
def _() -> Any:
    return longer.invoke(ASKED, stop=["France", "Paris"]).model_dump()


@fact("completions")
def _() -> Any:
    plain = OpenAI(model=MODEL, base_url=BASE, api_key=KEY, temperature=0, max_tokens=4)
    return plain.invoke("The capital of France is")


@fact("responses")
def _() -> Any:
    model = ChatOpenAI(
        model=MODEL, base_url=BASE, api_key=KEY, temperature=0, max_tokens=12, use_responses_api=True
    )
    return model.invoke(ASKED).text


@fact("cancel")
def _() -> Any:
    endless = ChatOpenAI(model=MODEL, base_url=BASE, api_key=KEY, temperature=0, max_tokens=2000)
    stream = endless.stream(COUNT)
    read = [next(stream).content for _ in range(3)]
    stream.close()
    return {"read": len(read)}


def refused(key: str) -> Any:
    """The status and code of a refusal."""
    try:
        ChatOpenAI(model=MODEL, base_url=BASE, api_key=key, max_tokens=12).invoke(QUESTION)
    except Exception as error:
        return {
            "status": getattr(error, "status_code", None),
            "code": getattr(error, "code", None),
            "class": type(error).__name__,
        }
    return {"status": 200}


@fact("budget")
def _() -> Any:
    return refused(POOR_KEY)


@fact("revoked")
def _() -> Any:
    return refused(REVOKED_KEY)


tell()
