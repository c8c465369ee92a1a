"""`python -m hypercluster.node.cli.verifier`, as `hc-verifier`."""

from hypercluster.node.cli.verifier import main

main()
