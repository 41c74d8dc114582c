"""Screens: they connect widgets with a session."""
