"""Widgets: the parts of a screen."""
