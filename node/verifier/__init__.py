"""A verifier: runs stages again for pay, and judges cases on committees."""
