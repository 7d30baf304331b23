"""The run folder, checkpoints, and runs beside each other."""
