"""`python -m hypercluster.node.cli.market`, as `hc-market`."""

from hypercluster.node.cli.market import main

main()
