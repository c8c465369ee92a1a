"""Running a transcript again and saying how far the answers are from it, within bounds that calibration finds."""
