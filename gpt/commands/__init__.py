"""The commands of `python -m gpt`, except training."""
