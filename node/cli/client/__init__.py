"""`hc-client`: see app.py."""

from hypercluster.node.cli.client.app import app, main

__all__ = ["app", "main"]
