"""Losses, targets and the objective: pure functions of one training step."""
