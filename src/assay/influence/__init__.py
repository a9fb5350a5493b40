"""Influence between samples, and the exact answer by refitting."""
