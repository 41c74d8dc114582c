"""The engine's protocol: JSON lines, which docs/engine.md describes."""
