"""Debian's Chromium on pages of a program that runs, and what must never happen in it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    Request,
    ViewportSize,
    expect,
    sync_playwright,
)

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ROOT / "tests" / "browser"
PATIENCE_MS = 120_000.0
NARROW: ViewportSize = {"width": 390, "height": 800}
"""a telephone's"""

EXPECTED = (
    "net::ERR_CONNECTION_REFUSED",
    "ERR_EMPTY_RESPONSE",
    "ERR_INCOMPLETE_CHUNKED_ENCODING",
    "ERR_ABORTED",
    "status of 401",
)
"""what Chromium itself writes to the console where a program is stopped, or a session over, as a test wants it"""


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """A browser of this machine; tests that need it are skipped where there is none, but not in CI."""
    if not CHROMIUM.exists() and os.environ.get("CI") != "true":
        pytest.skip("Debian's Chromium is not installed: run scripts/setup.py --dev as root")
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE_MS)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, *arguments])
        try:
            yield browser
        finally:
            browser.close()


def npm_packages() -> Path:
    """The folder node_modules of tests/browser, kept under .build/ for as long as its lock stays."""
    locks = [PACKAGES / name for name in ("package.json", "package-lock.json")]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in locks)).hexdigest()[:12]
    folder = ROOT / ".build" / f"browser-{digest}"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / ".ready").exists():
            for path in locks:
                shutil.copy(path, folder)
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder)]
            subprocess.run(command, check=True, capture_output=True)
            (folder / ".ready").touch()
    return folder / "node_modules"


@dataclass(eq=False)
class Visitor:
    """A person with a window open, and all that their browser asked for and complained of."""

    context: BrowserContext
    page: Page
    url: str
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    forgiving: bool = False
    """whether what belongs to a stopped program or an ended session is no complaint"""

    def __post_init__(self) -> None:
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.on("request", self._note_request)
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note_request(self, request: Request) -> None:
        self.asked.append(request.url)

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if not (self.forgiving and any(each in message.text for each in EXPECTED)):
            self.complaints.append(message.text)

    def go(self, view: str) -> Page:
        """Show a view, such as "spend", as a click on the rail does."""
        self.page.evaluate("view => { location.hash = `#/${view}`; }", view)
        return self.page

    def checked(self) -> None:
        """Nothing was asked of any other address, and nothing went wrong."""
        outside = [each for each in self.asked if not each.startswith((self.url, "data:", "blob:"))]
        assert not outside, outside
        assert not self.complaints, self.complaints

    def width_beyond(self) -> int:
        """Pixels by which the page is wider than its window."""
        wide: int = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return wide

    def faults(self) -> list[dict[str, Any]]:
        """What axe-core finds serious or critical in the page as it stands."""
        axe = (npm_packages() / "axe-core" / "axe.min.js").read_text()
        self.page.evaluate(
            f"() => {{ {axe} }}"
        )  # the policy lets no script in; a debugger is not bound by it
        options = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
        found = self.page.evaluate(f"() => axe.run(document, {json.dumps(options)})")
        return [
            {
                "id": each["id"],
                "where": [node["html"][:200] for node in each["nodes"]],
                "why": each["nodes"][0]["failureSummary"],
            }
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]


@contextmanager
def visitor(browser: Browser, url: str, link: str, **how: Any) -> Iterator[Visitor]:
    """Somebody who opens a link; at the end nothing may have been asked of another address or gone wrong."""
    context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | how))
    try:
        found = Visitor(context, context.new_page(), url)
        found.page.goto(link)
        yield found
        found.checked()
    finally:
        context.close()
