"""`python -m hypercluster.node.cli.verifier`, as `hc-verifier`."""

from hypercluster.node.cli.verifier.app import main

main()
