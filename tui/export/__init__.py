"""Files for others: a text with its numbers in several formats; no widgets, no model."""
