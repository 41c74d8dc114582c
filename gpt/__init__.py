"""A GPT written from scratch: the network, sampling, training, checkpoints and an engine.

Start with model.py (token ids → logits), sampling.py (logits → a token) and generate.py (a text,
token by token); docs/architecture.md shows the whole. Importing the package loads nothing.
Bad input, such as a damaged file or a number out of range, raises UserError with a sentence for the
person at the screen, in every module. Any other exception is a bug.
"""

__version__ = "0.1.0"
