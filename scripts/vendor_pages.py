"""Fetch what the pages are built on from npm and write it, with its licences and hashes, to node/web/vendor.

    .venv/bin/python scripts/vendor_pages.py

The files are those of the packages, byte for byte. Where a module imports another by a bare name, which browsers
cannot resolve, the name is replaced by the file's, and the manifest keeps the hash from before that as well.
"""

import hashlib
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

VENDOR = Path(__file__).resolve().parents[1] / "node" / "web" / "vendor"

Replaced = tuple[str, str] | None

PACKAGES: dict[str, tuple[str, dict[str, tuple[str, Replaced]]]] = {
    "preact@10.29.8": (
        "MIT",
        {
            "preact.js": ("dist/preact.module.js", None),
            "hooks.js": ("hooks/dist/hooks.module.js", ('from"preact"', 'from"./preact.js"')),
            "preact.LICENSE": ("LICENSE", None),
        },
    ),
    "htm@3.1.1": (
        "Apache-2.0",
        {"htm.js": ("dist/htm.module.js", None), "htm.LICENSE": ("LICENSE", None)},
    ),
    "uplot@1.6.32": (
        "MIT",
        {
            "uplot.js": ("dist/uPlot.esm.js", None),
            "uplot.css": ("dist/uPlot.min.css", None),
            "uplot.LICENSE": ("LICENSE", None),
        },
    ),
    "marked@18.2.1": (
        "MIT",
        {"marked.js": ("lib/marked.esm.js", None), "marked.LICENSE": ("LICENSE", None)},
    ),
    "dompurify@3.4.18": (
        "MPL-2.0 OR Apache-2.0",
        {"purify.js": ("dist/purify.es.mjs", None), "purify.LICENSE": ("LICENSE", None)},
    ),
    "@fontsource-variable/inter@5.3.0": (
        "OFL-1.1",
        {"inter.woff2": ("files/inter-latin-wght-normal.woff2", None), "inter.LICENSE": ("LICENSE", None)},
    ),
    "@fontsource-variable/jetbrains-mono@5.3.0": (
        "OFL-1.1",
        {
            "jetbrains-mono.woff2": ("files/jetbrains-mono-latin-wght-normal.woff2", None),
            "jetbrains-mono.LICENSE": ("LICENSE", None),
        },
    ),
}
"""package and version: licence, and files to write as (path in the package, a text in it to replace)"""


def packed(package: str, folder: Path) -> tarfile.TarFile:
    name = subprocess.run(
        ["npm", "pack", "--silent", package], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.split()[-1]
    return tarfile.open(folder / name)


def main() -> None:
    VENDOR.mkdir(exist_ok=True)
    files: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for package, (licence, wanted) in PACKAGES.items():
            name, version = package.rsplit("@", 1)
            with packed(package, Path(folder)) as tar:
                for target, (source, replaced) in wanted.items():
                    member = tar.extractfile(f"package/{source}")
                    assert member is not None, f"{package} has no {source}"
                    original = data = member.read()
                    entry = {"package": name, "version": version, "licence": licence, "path": source}
                    if replaced is not None:
                        before, after = (text.encode() for text in replaced)
                        assert data.count(before) == 1, f"{source} has {data.count(before)} of {replaced[0]}"
                        data = data.replace(before, after)
                        entry["sha256_in_package"] = hashlib.sha256(original).hexdigest()
                        entry["replaced"] = f"{replaced[0]} by {replaced[1]}"
                    entry["sha256"] = hashlib.sha256(data).hexdigest()
                    (VENDOR / target).write_bytes(data)
                    files[target] = entry
    (VENDOR / "manifest.json").write_text(json.dumps(files, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
