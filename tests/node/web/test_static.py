"""Pages and their files over HTTP, and that no path of a request reaches anything else."""

from __future__ import annotations

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from hypercluster.node.web import static
from hypercluster.node.web.guard import guarded
from hypercluster.node.web.health import Check, health
from hypercluster.node.web.metrics import ProcessMetrics, metrics_route
from hypercluster.node.web.static import File, PageMissing, assets, site
from tests.node.helpers.http import exchange, served

FILES = {
    "/pages/index.html": File(b"<p>b</p>", "text/html; charset=utf-8", '"2"'),
    "/vendor/x/x.js": File(b"export {}", "text/javascript; charset=utf-8", '"3"'),
}


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Starlette:
    monkeypatch.setattr(static, "assets", lambda: FILES)
    return Starlette(routes=site())


async def test_pages_and_files_are_served_with_a_policy_and_a_tag(app: Starlette) -> None:
    async with served(guarded(app)) as url, httpx.AsyncClient(base_url=url) as browser:
        page = await browser.get("/")
        assert (page.text, page.headers["etag"]) == ("<p>b</p>", '"2"')
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        file = await browser.get("/vendor/x/x.js")
        assert file.headers["content-type"] == "text/javascript; charset=utf-8"
        for told, status in (
            ('"3"', 304),
            ('W/"3"', 304),
            ('"1", "3"', 304),
            ("*", 304),
            ('"4"', 200),
            ("", 200),
        ):
            answer = await browser.get("/vendor/x/x.js", headers={"if-none-match": told})
            assert answer.status_code == status, told
        head = await browser.head("/pages/index.html")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "8")
        part = await browser.get("/", headers={"range": "bytes=0-2"})
        assert (part.status_code, part.text) == (200, "<p>b</p>")
        assert (await browser.post("/", json={})).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        r"/pages/../login.py",
        r"/pages/..%2flogin.py",
        r"/pages/%2e%2e/login.py",
        r"/pages/%2e%2e%2flogin.py",
        r"/vendor//etc/passwd",
        r"/pages/..%5clogin.py",
        r"/pages/%252e%252e%252flogin.py",
        r"/pages/....//login.py",
        r"/pages/",
        r"/vendor/x",
        r"/vendor/x/x.js/",
        r"/vendor/x/x.js%00",
        r"/Pages/index.html",
        r"/pages/index.html%20",
        r"/pages/index.HTML",
        r"/pages/%ff",
        r"/c",
        r"/pages/file:///etc/passwd",
        r"//etc/passwd",
        r"/pages/./index.html",
        r"/.git/config",
        r"/pages/..\login.py",
        r"/pages/C:/x",
        r"/pages/index.html;x",
        r"/pages/%c0%ae%c0%ae/login.py",
    ],
)
async def test_no_path_leads_elsewhere(app: Starlette, path: str) -> None:
    async with served(guarded(app)) as url:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = await exchange(url, request.encode())
    assert answer[9:12] in (b"404", b"400")


def test_an_installation_without_pages_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "assets", dict)
    with pytest.raises(PageMissing, match="The pages are not in this installation"):
        site()


def test_what_is_installed_is_found_with_its_kind() -> None:
    for path, file in assets().items():
        assert path.startswith(("/pages/", "/vendor/"))
        assert not path.endswith((".py", ".pyc"))
        assert file.type != "application/octet-stream", path


async def test_health_says_what_is_missing_and_metrics_are_there() -> None:
    wrong: list[str | None] = [None]

    async def chain() -> str | None:
        return wrong[0]

    async def bug() -> str | None:
        raise ZeroDivisionError

    registry = CollectorRegistry()
    metrics = ProcessMetrics(registry)
    metrics.job_failures.labels("claiming").inc()
    app = Starlette(routes=[*health([Check("chain", chain)]), metrics_route(registry)])
    async with served(guarded(app)) as url, httpx.AsyncClient(base_url=url) as probe:
        assert (await probe.get("/healthz")).json() == {"status": "ok"}
        assert (await probe.get("/readyz")).json() == {"status": "ready", "checks": {"chain": None}}
        wrong[0] = "The chain does not answer."
        answer = await probe.get("/readyz")
        assert (answer.status_code, answer.json()["checks"]["chain"]) == (503, wrong[0])
        told = await probe.get("/metrics")
        assert 'hypercluster_job_failures_total{job="claiming"} 1.0' in told.text
    async with served(Starlette(routes=health([Check("bug", bug)]))) as url, httpx.AsyncClient() as probe:
        answer = await probe.get(url + "/readyz")
        assert (answer.status_code, answer.json()["checks"]) == (503, {"bug": "could not be looked at"})
