"""`python -m hypercluster.node.cli.model`, as `hc-model`."""

from hypercluster.node.cli.model.app import main

main()
