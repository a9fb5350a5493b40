"""Curvature of the objective: the matrix, and ways to apply its inverse."""
