"""`python -m hypercluster.node.cli.model`, as `hc-model`."""

from hypercluster.node.cli.model import main

main()
