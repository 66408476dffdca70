"""Retraining: one decision with its evidence, what follows from it, and when to stop trying."""
