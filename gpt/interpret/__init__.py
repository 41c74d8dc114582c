"""What can be asked about a text that was read."""
