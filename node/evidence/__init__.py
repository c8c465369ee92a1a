"""What the two ends of a session can hold against each other: receipts, transcripts, verdicts."""
