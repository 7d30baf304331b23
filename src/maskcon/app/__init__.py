"""A server on this machine: its safety, its operations, and what they do."""
