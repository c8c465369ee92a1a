"""`hc-model`: see app.py."""

from hypercluster.node.cli.model.app import app, main

__all__ = ["app", "main"]
