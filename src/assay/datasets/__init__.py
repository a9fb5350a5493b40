"""Data to try things on: embedded tables, and noise whose truth is known."""
