"""/api/..., as Ollama has it, and the same under /k/KEY/, since its clients have no place for a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hypercluster.node.gateway.errors import ApiError
from hypercluster.node.gateway.keyring import MOST_KEY, key_of
from hypercluster.node.gateway.live import Live, json_response, new_request_id
from hypercluster.node.gateway.ollama.about import VERSION, running_of, shown_of, tag_of
from hypercluster.node.gateway.ollama.asking import model_of, read_chat, read_prompt, thinks
from hypercluster.node.gateway.ollama.lines import MEDIA_TYPE, Lines, line
from hypercluster.node.gateway.reading import read_body
from hypercluster.node.gateway.sse import compact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from hypercluster.node.gateway.chunks import Chunk
    from hypercluster.node.gateway.gateway import Gateway
    from hypercluster.node.gateway.keyring import Visit
    from hypercluster.node.gateway.reading import Fields
    from hypercluster.node.gateway.whole import Whole
    from hypercluster.node.traffic.entries import ModelEntry

    Answers = Callable[[Request], Awaitable[Response | Live]]

SECRET_PATHS = ("/k/",)
"""go on with a key"""
_KEYLESS = (
    "No API key was given. Clients of this API have no place for one: give them the host "
    "http://HOST:PORT/k/sk-hc-... with the key in its path, or let them send it as a Bearer token."
)
_REFUSED = {
    "embed": "No provider here makes embeddings: this network runs models that write text.",
    "embeddings": "No provider here makes embeddings: this network runs models that write text.",
    "pull": "Models are not pulled through the gateway: it offers what /api/tags lists.",
    "push": "Models are not pushed through the gateway: run hc-provider to serve one.",
    "create": "Models are not made through the gateway: /api/tags lists what it offers.",
    "copy": "Models are not copied through the gateway: /api/tags lists what it offers.",
    "delete": "Models are not deleted through the gateway: /api/tags lists what it offers.",
}


class Told:
    """An answer as Ollama writes it: see `live.Flavour`."""

    media_type = MEDIA_TYPE

    def __init__(self, lines: Lines | None = None) -> None:
        self._lines = lines or Lines("", generate=False, thought=False)

    def begin(self, request_id: str, entry: ModelEntry, choices: int) -> bytes:
        """Nothing: each line stands for itself."""
        return b""

    def write(self, chunk: Chunk) -> bytes:
        """The lines of a chunk."""
        return b"".join(map(line, self._lines.write(chunk)))

    def wait(self, comment: str) -> bytes:
        """Nothing: a line that is no piece of the answer would be taken for one."""
        return b""

    def fail(self, error: ApiError) -> bytes:
        """The error as a line, which ends the stream."""
        return line(error_document(error))

    def whole(self, whole: Whole) -> bytes:
        """All in one object."""
        return compact(self._lines.whole(whole))

    def refuse(self, error: ApiError) -> bytes:
        """An error instead of an answer."""
        return compact(error_document(error))


def error_document(error: ApiError) -> dict[str, Any]:
    """An error as Ollama has it, with its code."""
    return {"error": str(error), "code": error.code}


def routes(gateway: Gateway) -> list[Route]:
    """Of this API."""
    market = gateway.market

    async def admitted(request: Request) -> Visit:
        key = request.path_params.get("key")
        if key is None and gateway.ollama_open is not None and key_of(request) is None:
            return await gateway.keyring.admit_as(gateway.ollama_open, request, "ollama")
        if key is None and key_of(request) is None:
            raise ApiError(401, "invalid_api_key", _KEYLESS)
        return await gateway.keyring.admit(request, "ollama", None if key is None else key[:MOST_KEY])

    def entry(visit: Visit, body: Fields) -> ModelEntry:
        found = market.model(model_of(body))
        visit.check(found)
        return found

    async def listed(request: Request) -> list[ModelEntry]:
        visit = await admitted(request)
        return [each for each in market.models() if visit.allows(each)]

    async def tags(request: Request) -> Response:
        return _told(
            {"models": [tag_of(each, market.manifest(each.model_id)) for each in await listed(request)]}
        )

    async def ps(request: Request) -> Response:
        served = [each for each in await listed(request) if each.coverage == 1]
        return _told({"models": [running_of(each, market.manifest(each.model_id)) for each in served]})

    async def version(request: Request) -> Response:
        return _told({"version": VERSION})

    async def show(request: Request) -> Response:
        visit = await admitted(request)
        found = entry(visit, read_body(await request.body()))
        return _told(shown_of(found, market.manifest(found.model_id)))

    async def chat(request: Request) -> Response | Live:
        visit = await admitted(request)
        body = read_body(await request.body())
        entry(visit, body)
        lines = _lines(body, generate=False)
        if not body.listed("messages", 1 << 20):
            return _told(lines.loaded(_load(body)))
        return Live(gateway, visit, read_chat(body), Told(lines))

    async def generate(request: Request) -> Response | Live:
        visit = await admitted(request)
        body = read_body(await request.body())
        found = entry(visit, body)
        lines = _lines(body, generate=True)
        if not body.text("prompt"):
            return _told(lines.loaded(_load(body)))
        return Live(gateway, visit, read_prompt(body, found.has_template), Told(lines))

    async def refused(request: Request) -> Response:
        what = request.path_params["what"]
        raise ApiError(404, "not_supported", _REFUSED.get(what, f"There is no /api/{what[:40]} here."))

    async def alive(request: Request) -> Response:
        return PlainTextResponse("Ollama is running")

    table: list[tuple[str, str, Answers]] = [
        ("GET", "/api/tags", tags),
        ("GET", "/api/ps", ps),
        ("GET", "/api/version", version),
        ("POST", "/api/show", show),
        ("POST", "/api/chat", chat),
        ("POST", "/api/generate", generate),
    ]
    found = [
        Route(f"{before}{path}", answers, methods=[method])
        for before in ("", "/k/{key}")
        for method, path, answers in table
    ]
    kinds = ["GET", "POST", "DELETE"]
    return [
        *found,
        Route("/k/{key}", alive),
        Route("/k/{key}/", alive),
        *(Route(f"{before}/api/{{what:path}}", refused, methods=kinds) for before in ("", "/k/{key}")),
    ]


def _lines(body: Fields, *, generate: bool) -> Lines:
    called = body.text("model") or body.text("name") or ""
    return Lines(called, generate=generate, thought=thinks(body) is not False)


def _load(body: Fields) -> str:
    """Clients load a model by asking it nothing, and unload it by asking it to stay for no time."""
    return "unload" if body.get("keep_alive") in (0, "0", "0s", "0m") else "load"


def _told(document: dict[str, Any]) -> Response:
    return json_response(compact(document), 200, new_request_id())
