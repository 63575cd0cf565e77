"""Figures from arrays: how right labels and rankings are, and how sure that is. NumPy only."""
