"""Evaluation: what a model can do, how sure that is, and whether another one is better."""
