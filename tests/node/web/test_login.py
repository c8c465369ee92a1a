"""Links that open once, cookies, log-out, and passwords that are not tried without end."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hypercluster.node.web import login
from hypercluster.node.web.guard import guarded
from hypercluster.node.web.login import Logins, NoLink, TooManyPasswords, new_link
from tests.node.helpers.http import served


@asynccontextmanager
async def house(logins: Logins) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    async def me(request: Request) -> Response:
        return JSONResponse(logins.logged_in(request.scope))

    app = Starlette(routes=[*logins.routes(), Route("/", me), Route("/me", me, methods=["GET", "POST"])])
    async with served(guarded(app, origins=["https://chat.example"])) as url:
        logins.opened_at(url)
        async with httpx.AsyncClient(base_url=url) as browser:
            yield url, browser


async def test_a_link_logs_in_once() -> None:
    logins = Logins()
    async with house(logins) as (url, browser):
        assert (await browser.get("/me")).json() is False
        link = logins.one_time_link()
        assert link.startswith(url + "/login?t=")
        assert (await browser.head(link)).status_code == 200  # a preview
        answer = await browser.get(link)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert f"hc_{url.rpartition(':')[2]}=" in cookie
        assert "referrer-policy" in answer.headers
        assert "; secure" not in cookie
        async with httpx.AsyncClient() as proxied:
            by_tls = await proxied.get(logins.one_time_link(), headers={"x-forwarded-proto": "https"})
            assert "; secure" in by_tls.headers["set-cookie"].lower()
        assert (await browser.get("/me")).json() is True
        async with httpx.AsyncClient(base_url=url) as other:
            again = await other.get(link)
            assert (again.status_code, again.json()["error"]["code"]) == (401, "link_not_valid")
            assert (await other.get("/me")).json() is False


@pytest.mark.parametrize("token", ["", "x", "1.2.3", "9999999999.a.", "9999999999.a.ü", "..", "9" * 5000])
async def test_a_link_that_was_not_given_out_opens_nothing(token: str) -> None:
    async with house(Logins()) as (_, browser):
        answer = await browser.get("/login", params={"t": token})
        assert (answer.status_code, "set-cookie" in answer.headers) == (401, False)


async def test_a_link_grows_old_and_so_does_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    logins = Logins()
    async with house(logins) as (_, browser):
        monkeypatch.setattr(login, "LINK_SECONDS", -1)
        assert (await browser.get(logins.one_time_link())).status_code == 401
        monkeypatch.setattr(login, "LINK_SECONDS", 60)
        monkeypatch.setattr(login, "SESSION_SECONDS", 0)
        assert (await browser.get(logins.one_time_link())).status_code == 303
        assert (await browser.get("/me")).json() is False


async def test_links_of_another_run_and_cookies_made_up_are_nothing() -> None:
    async with house(Logins()) as (url, browser):
        earlier = Logins()
        earlier.opened_at(url)
        assert (await browser.get(earlier.one_time_link())).status_code == 401
        name = f"hc_{url.rpartition(':')[2]}"
        for cookie in (f"{name}=x", f"{name}=", f"{name}", "; ; =;", f"{name}=x; {name}=y"):
            assert (await browser.get("/me", headers={"cookie": cookie})).json() is False


async def test_logging_out_ends_this_session_alone() -> None:
    logins = Logins()
    async with house(logins) as (url, browser), httpx.AsyncClient(base_url=url) as other:
        for each in (browser, other):
            await each.get(logins.one_time_link())
        cookie = {"cookie": "; ".join(f"{name}={value}" for name, value in browser.cookies.items())}
        browser.cookies.clear()
        await browser.post("/logout", json={}, headers={"origin": "https://chat.example", **cookie})
        assert (await browser.get("/me", headers=cookie)).json() is True  # a listed page may not do that
        assert (await browser.post("/logout", json={}, headers=cookie)).status_code == 204
        assert (await browser.get("/me", headers=cookie)).json() is False
        assert (await other.get("/me")).json() is True


async def test_a_cookie_does_not_count_for_pages_of_others() -> None:
    logins = Logins()
    async with house(logins) as (url, browser):
        await browser.get(logins.one_time_link())
        assert (await browser.post("/me", json={}, headers={"origin": url})).json() is True
        assert (
            await browser.post("/me", json={}, headers={"origin": "https://chat.example"})
        ).json() is False
        followed = {
            "sec-fetch-site": "cross-site",
            "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "document",
        }
        assert (await browser.get("/me", headers=followed)).json() is False


async def test_only_so_many_are_logged_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login, "MOST_SESSIONS", 2)
    logins = Logins()
    async with house(logins) as (url, browser):
        await browser.get(logins.one_time_link())
        for _ in range(2):
            async with httpx.AsyncClient(base_url=url) as other:
                await other.get(logins.one_time_link())
                assert (await other.get("/me")).json() is True
        assert (await browser.get("/me")).json() is False


async def test_a_command_beside_the_program_makes_links_too(tmp_path: Path) -> None:
    keep = tmp_path / "gateway.link"
    with pytest.raises(NoLink, match="Nothing that has pages runs from"):
        new_link(keep)
    logins = Logins(keep=keep)
    async with house(logins) as (_, browser):
        assert stat.S_IMODE(keep.stat().st_mode) == 0o600
        assert (await browser.get(new_link(keep))).status_code == 303
        assert (await browser.get("/me")).json() is True
    logins.close()
    with pytest.raises(NoLink):
        new_link(keep)
    keep.write_text('{"url": "http://127.0.0.1:1", "secret": "00", "pid": 999999999}')
    with pytest.raises(NoLink):
        new_link(keep)  # killed


async def test_passwords_are_not_tried_without_end() -> None:
    asked: list[str] = []

    async def check(password: str) -> bool:
        asked.append(password)
        return password == "right"

    logins = Logins(password=check)
    for _ in range(3):
        for _ in range(login.WRONG_PASSWORDS - 1):
            assert not await logins.confirm("wrong")
        assert await logins.confirm("right")  # which begins the count again
    for _ in range(login.WRONG_PASSWORDS):
        assert not await logins.confirm("wrong")
    count = len(asked)
    for password in ("wrong", "right"):
        with pytest.raises(TooManyPasswords, match="try again in"):
            await logins.confirm(password)
    assert len(asked) == count
    assert not await Logins().confirm("right")
