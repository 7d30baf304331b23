"""An index of pictures."""
