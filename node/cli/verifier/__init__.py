"""`hc-verifier`: see app.py."""

from hypercluster.node.cli.verifier.app import app, main

__all__ = ["app", "main"]
