"""Turns other people's checkpoints into ours; the only place that knows their tensor names."""
