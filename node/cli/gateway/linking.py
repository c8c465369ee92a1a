"""`hc-gateway link`: another link to the pages."""

from __future__ import annotations

from hypercluster.node.cli.console import Json, show
from hypercluster.node.home.settings import Settings


def link(json_: Json = False) -> None:
    """Print a link that opens the gateway's pages in a browser, once and within a quarter of an hour.

    Example: [bold]hc-gateway link[/]
    """
    from hypercluster.node.gateway.running import LINK_FILE
    from hypercluster.node.web.login import new_link

    show({"link": new_link(Settings().home / LINK_FILE)}, lambda document: document["link"], json_)
