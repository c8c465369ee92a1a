"""`python -m hypercluster.node.cli.client`, as `hc-client`."""

from hypercluster.node.cli.client.app import main

main()
