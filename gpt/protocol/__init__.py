"""The lines that another process and the engine exchange."""
