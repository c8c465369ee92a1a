"""`python -m hypercluster.node.cli.client`, as `hc-client`."""

from hypercluster.node.cli.client import main

main()
