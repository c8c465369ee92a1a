"""`hc`: see app.py."""

from hypercluster.node.cli.start import program

main = program("hypercluster.node.cli.hc.app")
