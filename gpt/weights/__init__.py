"""Weights in 8, 16 or 32 bits: how they are stored, multiplied and read from a file."""
