"""Local networks for trying things out and for tests: a chain, nodes, the demos, nodes that cheat."""
