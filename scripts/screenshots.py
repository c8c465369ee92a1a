"""Pictures of the pages for the documentation, taken in Chromium from a market that runs while they are taken.

    .venv/bin/python scripts/screenshots.py [ONLY...]

It starts a chain, six providers of SmolLM2, one of which cheats, a verifier and a gateway, lets a few programs chat
over it for a minute, and writes docs/figures/pages-*.png; with names of pictures only those. Nothing in them is
invented.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from hypercluster.market.money.units import HCT
from hypercluster.node.catalogue import SMOLLM2
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards import fetch
from hypercluster.node.testnet.demo import shipped_bounds
from hypercluster.node.testnet.keeping import profile_for
from hypercluster.node.testnet.localnet import LocalNetwork, running_network
from hypercluster.node.testnet.specs import ProviderSpec, VerifierSpec

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"
MOST_BYTES = 200_000
WIDE, NARROW = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
PACE = ("--refresh", "3", "--sessions", "6", "--session-tokens", "2048", "--http", "127.0.0.1:0")
PROVIDERS = (
    ProviderSpec(layers="0:8", price="1.2", flags=PACE),
    ProviderSpec(layers="8:16", price="1.5", flags=PACE),
    ProviderSpec(layers="16:23", price="1.1", flags=PACE),
    ProviderSpec(layers="23:30", price="1.4", flags=PACE),
    ProviderSpec(layers="16:23", price="2.6", flags=PACE),
    ProviderSpec(layers="8:16", price="0.4", flags=PACE, cheat="noise"),
)
PROGRAMS = (
    ("opencode/1.18.33", "opencode", "Name three uses of a spoon."),
    ("OpenAI/Python 3.57.0", "notebook", "What is the capital of Italy?"),
    ("ai-sdk/openai-compatible", "website", "Write one sentence about rain."),
)


def main() -> None:
    model = fetch(SMOLLM2.source, Settings().cache_folder) if SMOLLM2.source else None
    assert model is not None
    only = set(sys.argv[1:])
    with tempfile.TemporaryDirectory() as folder:
        verifier = VerifierSpec(
            flags=("--refresh", "3", "--bounds", str(shipped_bounds()), "--http", "127.0.0.1:0")
        )
        with (
            running_network(Path(folder), PROVIDERS, model=model, verifiers=[verifier]) as network,
            running_gateway(network) as (url, environment),
        ):
            keys = {name: new_key(environment, name) for _, name, _ in PROGRAMS}
            for _ in range(1 if only else 3):
                with ThreadPoolExecutor(len(PROGRAMS)) as pool:
                    list(pool.map(lambda program: chat(url, keys[program[1]], *program), PROGRAMS))
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
                )
                Camera(browser, network, environment, only).take_all()


@contextmanager
def running_gateway(network: LocalNetwork) -> Iterator[tuple[str, dict[str, str]]]:
    """`hc-gateway run` over the network, every stage looked over; its URL, and the environment of its home."""
    client = network.client(1_000 * HCT)
    profile = network.home / "profile.json"
    profile_for(network, SMOLLM2).save(profile)
    environment = {**network.environment(client.home), "HC_PROFILE": str(profile)}
    command = ["run", "--model", SMOLLM2.name, "--listen", "127.0.0.1:0", "--audit-rate", "1"]
    with subprocess.Popen(program("gateway", *command), env=environment) as process:
        try:
            yield link_of("gateway", environment).partition("/login")[0], environment
        finally:
            process.terminate()


def program(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", f"hypercluster.node.cli.{name}", *arguments]


def link_of(name: str, environment: dict[str, str]) -> str:
    """A fresh link to the pages of a program, as soon as it serves."""
    deadline = time.monotonic() + 90
    while True:
        told = subprocess.run(
            program(name, "link", "--json"), env=environment, capture_output=True, text=True
        )
        if told.returncode == 0:
            return str(json.loads(told.stdout)["link"])
        assert time.monotonic() < deadline, told.stderr + told.stdout
        time.sleep(1)


def new_key(environment: dict[str, str], name: str) -> str:
    command = program("gateway", "keys", "create", name, "--budget", "0.05", "--period", "day", "--json")
    return str(json.loads(subprocess.check_output(command, env=environment))["key"])


def chat(url: str, key: str, agent: str, _name: str, text: str) -> None:
    """One request as a program makes it; what it answers does not matter."""
    httpx.post(
        f"{url}/v1/chat/completions",
        json={"model": SMOLLM2.name, "messages": [{"role": "user", "content": text}], "max_tokens": 32},
        headers={"authorization": f"Bearer {key}", "user-agent": agent},
        timeout=120,
    )


class Camera:
    """Takes pictures of pages, light and dark, wide and as a telephone shows them."""

    def __init__(
        self, browser: Browser, network: LocalNetwork, environment: dict[str, str], only: set[str]
    ) -> None:
        self._browser, self._network, self._environment, self._only = browser, network, environment, only

    def take_all(self) -> None:
        """Every picture, in an order in which each finds what it shows."""
        wide = self._open("gateway", self._environment, WIDE)
        converse(wide)
        self._take(wide, "chat", "chat")
        self._take(wide, "network", "network", whole=True)
        self._take(wide, "spend", "spend", whole=True)
        self._take(wide, "keys", "keys")
        wide.evaluate("location.hash = '#/spend'")
        wide.get_by_label("Requests", exact=True).get_by_role("link").first.click()
        wide.get_by_role("button", name="Copy the id").wait_for()
        self._picture(wide, "request", whole=True)
        dark = self._open("gateway", self._environment, WIDE, dark=True, like=wide)
        self._take(dark, "chat", "chat-dark")
        self._take(dark, "network", "network-dark")
        narrow = self._open("gateway", self._environment, NARROW, like=wide)
        self._take(narrow, "chat", "chat-390")
        narrow = self._open("gateway", self._environment, NARROW, dark=True, like=wide)
        self._take(narrow, "network", "network-390")
        provider, verifier = self._network.providers[0], self._network.verifiers[0]
        page = self._open("provider", self._network.environment(provider.home), WIDE)
        self._take(page, "provider", "provider", whole=True)
        page = self._open("verifier", self._network.environment(verifier.home), WIDE)
        self._take(page, "verifier", "verifier")

    def _open(
        self,
        name: str,
        environment: dict[str, str],
        size: dict[str, int],
        *,
        dark: bool = False,
        like: Page | None = None,
    ) -> Page:
        """A window on the pages of a program; `like` another it has the same chats."""
        context = self._browser.new_context(
            viewport={"width": size["width"], "height": size["height"]},
            color_scheme="dark" if dark else "light",
            device_scale_factor=1,
        )
        page = context.new_page()
        page.goto(link_of(name, environment))
        if like is not None:
            chats = like.evaluate("localStorage.getItem('hc.chats')")
            page.evaluate("chats => localStorage.setItem('hc.chats', chats)", chats)
            page.reload()
        return page

    def _take(self, page: Page, view: str, name: str, *, whole: bool = False) -> None:
        page.evaluate("view => { location.hash = `#/${view}`; }", view)
        page.get_by_role("heading", level=1).wait_for()
        self._picture(page, name, whole=whole)

    def _picture(self, page: Page, name: str, *, whole: bool) -> None:
        if self._only and name not in self._only:
            return
        page.locator(".wait-lines").first.wait_for(state="detached")
        page.wait_for_timeout(1500)  # charts are drawn
        taken = page.screenshot(full_page=whole, clip=None)
        image = Image.open(io.BytesIO(taken)).convert("RGB")
        image = image.crop((0, 0, image.width, min(image.height, 1500)))
        target = FIGURES / f"pages-{name}.png"
        image.quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
        size = target.stat().st_size
        assert size < MOST_BYTES, f"{target} has {size} bytes"
        print(f"{target.relative_to(Path.cwd())}  {image.width} x {image.height}, {size / 1000:.0f} kB")


def converse(page: Page) -> None:
    """A short chat on the page, until its audits are known."""
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Tokens at most").fill("40")
    page.get_by_role("button", name="Settings").click()
    for text in ("What are the seasons of the year?", "Which of them is the warmest?"):
        page.get_by_label("Message").fill(text)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="Regenerate").wait_for(timeout=120_000)
    page.locator(".badge").last.wait_for(timeout=60_000)
    page.wait_for_timeout(8000)


if __name__ == "__main__":
    os.environ.setdefault("HC_LOG_LEVEL", "ERROR")
    main()
