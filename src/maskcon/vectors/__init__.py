"""Pictures become vectors: computed, kept, read and written."""
