"""What the pages are built on is what its packages hold, and nothing in them points outside."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from hypercluster.node.web.static import CSP, assets

WEB = Path(__file__).resolve().parents[3] / "node" / "web"
MANIFEST = json.loads((WEB / "vendor" / "manifest.json").read_text())
PAGES = sorted((WEB / "pages").glob("*.*"))


def test_every_vendored_file_is_in_the_manifest() -> None:
    assert {path.name for path in (WEB / "vendor").iterdir()} == MANIFEST.keys() | {"manifest.json"}


@pytest.mark.parametrize("name", MANIFEST)
def test_vendored_files_are_what_the_manifest_says(name: str) -> None:
    entry = MANIFEST[name]
    data = (WEB / "vendor" / name).read_bytes()
    assert hashlib.sha256(data).hexdigest() == entry["sha256"], f"{name}: run scripts/vendor_pages.py"
    assert entry["package"]
    assert entry["version"]
    assert entry["licence"]
    if "replaced" in entry:
        before, after = entry["replaced"].split(" by ")
        original = data.replace(after.encode(), before.encode())
        assert hashlib.sha256(original).hexdigest() == entry["sha256_in_package"]


def test_every_package_comes_with_its_licence() -> None:
    packages = {entry["package"] for entry in MANIFEST.values()}
    licensed = {entry["package"] for name, entry in MANIFEST.items() if name.endswith(".LICENSE")}
    assert packages == licensed


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_pages_point_nowhere_outside(path: Path) -> None:
    text = path.read_text()
    links = re.findall(r"""(?:src|href|from|import)\s*[=(]?\s*["'](\w+:)?//""", text)
    assert not links
    assert len(text.splitlines()) <= 350


def test_modules_of_the_pages_are_all_served() -> None:
    served = assets()
    for path in PAGES:
        for module in re.findall(r"""from "(\.[^"]+)";""", path.read_text()):
            target = (path.parent / module).resolve().relative_to(WEB)
            assert f"/{target}" in served, f"{path.name} imports {module}"


def test_the_policy_allows_no_inline_script_or_style() -> None:
    assert "unsafe" not in CSP
    assert "default-src 'none'" in CSP
    html = (WEB / "pages" / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", html)
