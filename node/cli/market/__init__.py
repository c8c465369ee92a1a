"""`hc-market`: see app.py."""

from hypercluster.node.cli.market.app import app, main

__all__ = ["app", "main"]
