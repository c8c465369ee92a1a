"""`python -m hypercluster.node.cli.provider`, as `hc-provider`."""

from hypercluster.node.cli.provider import main

main()
