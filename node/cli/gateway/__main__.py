"""`python -m hypercluster.node.cli.gateway`, as `hc-gateway`."""

from hypercluster.node.cli.gateway import main

main()
