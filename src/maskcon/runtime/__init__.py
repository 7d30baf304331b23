"""Device, processes, seeds, files, progress; knows nothing of the rest."""
