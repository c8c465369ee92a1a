"""Who offers what, which path is lightest, and where prices settle: the paper's market, without any I/O."""
