"""The client after a completion: which stages are looked over, by whom, and what follows from a fault."""
