"""Look inside a model while it reads a text: layers, attention, attribution, alternatives."""
