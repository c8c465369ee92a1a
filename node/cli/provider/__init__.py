"""`hc-provider`: see app.py."""

from hypercluster.node.cli.provider.app import app, main

__all__ = ["app", "main"]
