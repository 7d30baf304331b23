"""The forms in which people have their data."""
