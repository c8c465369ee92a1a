"""Run the demo and draw what it printed: docs/demo.svg.

python scripts/draw_demo.py [--output FILE] [--tokens N]
"""

import argparse
import re
import sys
from dataclasses import replace
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.segment import Segment
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from hypercluster.node.catalogue import SMOLLM2
from hypercluster.node.cli.testnet.app import CHAT_PROMPT
from hypercluster.node.cli.testnet_views import show_demo, shown
from hypercluster.node.home.settings import Settings
from hypercluster.node.shards.naming import file_of
from hypercluster.node.testnet.demo import run_demo

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 84
THEME = TerminalTheme(
    background=(22, 24, 33),
    foreground=(214, 218, 230),
    normal=[
        (22, 24, 33),
        (226, 120, 120),
        (180, 190, 130),
        (226, 164, 120),
        (132, 160, 198),
        (160, 147, 199),
        (137, 184, 194),
        (198, 200, 209),
    ],
)
# The viewer's own monospaced font: a picture should fetch nothing from anywhere.
FORMAT = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.S).replace(
    "Fira Code, monospace", "ui-monospace, SFMono-Regular, Menlo, Consolas, monospace"
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "demo.svg", help="file to write")
    parser.add_argument("--tokens", type=int, default=64, help="tokens to generate")
    arguments = parser.parse_args()
    console = Console(record=True, width=COLUMNS, highlight=False, force_terminal=False)
    console.print("[bold]$ make demo[/]")
    settings = Settings()
    model = file_of(SMOLLM2, settings.cache_folder)
    said: list[str] = []
    with shown(None, console) as telling:
        result = run_demo(
            settings.home / "demo",
            prompt=CHAT_PROMPT,
            tokens=arguments.tokens,
            alpha=0.5,
            model=model,
            chat=True,
            telling=replace(telling, text=said.append),
        )
    console.print(Text("".join(said), end=""))  # in lines that fit, as a terminal shows it
    show_demo(result, console)
    # Some viewers lose the spaces between pieces.
    console._record_buffer[:] = Segment.simplify(console._record_buffer)
    picture = console.export_svg(title="HyperCluster", theme=THEME, code_format=FORMAT, unique_id="demo")
    arguments.output.write_text("\n".join(line.rstrip() for line in picture.splitlines()) + "\n")
    return 0 if result.reconciled and result.identical_to_unsplit else 1


if __name__ == "__main__":
    sys.exit(main())
