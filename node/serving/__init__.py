"""What provider and verifier share: being paid, refusing, periodic jobs."""
