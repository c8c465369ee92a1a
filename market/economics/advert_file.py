"""Adverts in a JSON file: what `hc-market` reads with ``--adverts``. docs/economics.md describes the format.

A wrong file is refused with the line and the field.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from json.decoder import scanstring  # type: ignore[attr-defined]  # the decoder's own string reader
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hypercluster.market.advert import MAX_LAYERS
from hypercluster.market.economics.graph import MAX_PRICE_WEI, Floats, Node, link_matrix
from hypercluster.market.economics.parameters import MarketParameters
from hypercluster.market.errors import MarketError

MOST_BYTES = 64 << 20


class BadAdvertFile(MarketError):
    """A file of adverts cannot be read; the message names the line and the field."""


_DEFAULT = MarketParameters()
_STRICT = ConfigDict(extra="forbid", strict=True)
_Wei = Annotated[int, Field(ge=0, le=MAX_PRICE_WEI)]
_Ms = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Advert(BaseModel):
    model_config = _STRICT
    id: Annotated[str, Field(min_length=1)]
    start: Annotated[int, Field(ge=0, lt=MAX_LAYERS)]
    stop: Annotated[int, Field(ge=1, le=MAX_LAYERS)]
    price_wei: _Wei
    cost_ms: _Ms
    latency_ms: _Ms = 0.0
    prompt_price_wei: _Wei = 0
    capacity: Annotated[int, Field(ge=0)] = 0
    free: Annotated[int, Field(ge=0)] | None = None
    wait_ms: _Ms = 0.0
    risk: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    prompt_ms: _Ms = 0.0
    session_tokens: Annotated[int, Field(ge=1)] | None = None
    max_top_k: Annotated[int, Field(ge=0)] | None = None
    operator: str = ""
    stake_wei: Annotated[int, Field(ge=0)] = 0
    cached_price_wei: _Wei = 0


class _Link(BaseModel):
    model_config = _STRICT
    source: str
    target: str
    ms: _Ms


class _Market(BaseModel):
    model_config = _STRICT
    alpha: Annotated[float, Field(ge=0, le=1)] = _DEFAULT.alpha
    p_ref: Annotated[int, Field(gt=0)] = _DEFAULT.p_ref
    c_ref: Annotated[float, Field(gt=0, allow_inf_nan=False)] = _DEFAULT.c_ref
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = _DEFAULT.temperature
    outside_weight: Annotated[float, Field(allow_inf_nan=False)] | None = _DEFAULT.outside_weight
    variety: Annotated[float, Field(ge=0, le=1)] = _DEFAULT.variety
    prompt_ratio: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _DEFAULT.prompt_ratio
    held: Annotated[float, Field(ge=0, le=1)] = _DEFAULT.held
    risk_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _DEFAULT.risk_weight


class _File(BaseModel):
    model_config = _STRICT
    layers: Annotated[int, Field(ge=1, le=MAX_LAYERS)]
    adverts: list[_Advert]
    links: list[_Link] = []
    market: _Market = _Market()


@dataclass(frozen=True)
class AdvertFile:
    """The adverts of one model: m, the nodes, direct links in ms by ids, and the market's parameters."""

    layers: int
    nodes: tuple[Node, ...]
    links: dict[tuple[str, str], float]
    market: MarketParameters

    def latency(self) -> Floats | None:
        """Return the matrix of direct links, float64 [n, n], or None where the file names none."""
        return link_matrix(self.nodes, self.links) if self.links else None


def load_adverts(path: Path) -> AdvertFile:
    """Read and check a file of adverts; raises `BadAdvertFile`, naming line and field."""
    try:
        with path.open("rb") as file:
            read = file.read(MOST_BYTES + 1)
        text = read.decode("utf-8-sig")
    except OSError as error:
        raise BadAdvertFile(f"{path} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise BadAdvertFile(f"{path} is no text in UTF-8: byte {error.start} cannot be read.") from error
    if len(read) > MOST_BYTES:
        raise BadAdvertFile(f"{path} holds more than {MOST_BYTES >> 20} MiB: it is no file of adverts.")
    try:
        raw = json.loads(text)
        content = _File.model_validate(raw)
    except json.JSONDecodeError as error:
        raise BadAdvertFile(f"{path}, line {error.lineno}: not JSON, {error.msg.lower()}.") from error
    except RecursionError as error:
        raise BadAdvertFile(f"{path}, line 1: not a file of adverts, nested too deeply.") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise _refusal(path, text, first["loc"], first["msg"]) from error
    nodes = []
    seen: dict[str, int] = {}
    for i, advert in enumerate(content.adverts):
        if advert.start >= advert.stop or advert.stop > content.layers:
            problem = f"must lie above start {advert.start} and at most at layers {content.layers}"
            raise _refusal(path, text, ("adverts", i, "stop"), problem)
        if advert.id in seen:
            raise _refusal(path, text, ("adverts", i, "id"), f"repeats that of advert {seen[advert.id]}")
        free = advert.capacity if advert.free is None else advert.free
        if free > advert.capacity:
            raise _refusal(path, text, ("adverts", i, "free"), f"exceeds the capacity {advert.capacity}")
        seen[advert.id] = i
        nodes.append(Node(**{**advert.model_dump(), "free": free}))
    for i, link in enumerate(content.links):
        for end in ("source", "target"):
            if getattr(link, end) not in seen:
                raise _refusal(path, text, ("links", i, end), f"names no advert: {getattr(link, end)}")
    fields = content.market.model_dump()
    outside = math.inf if fields["outside_weight"] is None else fields["outside_weight"]
    return AdvertFile(
        content.layers,
        tuple(nodes),
        {(link.source, link.target): link.ms for link in content.links},
        replace(MarketParameters(), **{**fields, "outside_weight": outside}),
    )


def save_adverts(path: Path, file: AdvertFile) -> None:
    """Write adverts in the format that `load_adverts` reads, one advert a line."""
    market = {name: getattr(file.market, name) for name in _Market.model_fields}
    if math.isinf(file.market.outside_weight):
        market["outside_weight"] = None
    names = list(_Advert.model_fields)
    adverts = [json.dumps({name: getattr(node, name) for name in names}) for node in file.nodes]
    links = [json.dumps({"source": a, "target": b, "ms": ms}) for (a, b), ms in file.links.items()]
    path.write_text(
        "{\n"
        f' "layers": {file.layers},\n'
        f' "market": {json.dumps(market)},\n'
        ' "adverts": [\n  ' + ",\n  ".join(adverts) + "\n ],\n"
        ' "links": [' + (("\n  " + ",\n  ".join(links) + "\n ") if links else "") + "]\n"
        "}\n",
        encoding="utf-8",
    )


def _refusal(path: Path, text: str, where: tuple[Any, ...], problem: str) -> BadAdvertFile:
    field = ".".join(map(str, where)) or "the whole file"
    line = text.count("\n", 0, _offset(text, where)) + 1
    return BadAdvertFile(f"{path}, line {line}, field {field}: {problem[0].lower()}{problem[1:]}.")


def _offset(text: str, where: tuple[Any, ...]) -> int:
    """Return where in valid JSON ``text`` the value at ``where`` begins, or the innermost one that exists."""
    decoder = json.JSONDecoder()

    def skip(at: int, also: str = "") -> int:
        while at < len(text) and text[at] in " \t\r\n" + also:
            at += 1
        return at

    at = skip(0)
    for step in where:
        opening = text[at]
        if opening not in "{[":
            return at
        inner, index = skip(at + 1), 0
        while text[inner] not in "}]":
            key: object = index
            if opening == "{":
                key, inner = scanstring(text, inner + 1)
                inner = skip(inner, ":")
            if key == step:
                break
            inner, index = skip(decoder.raw_decode(text, inner)[1], ","), index + 1
        else:
            return at
        at = inner
    return at
