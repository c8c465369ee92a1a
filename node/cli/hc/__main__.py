"""`python -m hypercluster.node.cli.hc`, as `hc`."""

from hypercluster.node.cli.hc import main

main()
