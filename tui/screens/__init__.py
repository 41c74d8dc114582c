"""Screens wire widgets, a document and a backend together."""
