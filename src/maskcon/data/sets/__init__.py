"""The data sets with a name."""
