"""From a text to a checkpoint."""
