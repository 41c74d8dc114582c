"""A GPT written from scratch: the network, sampling, training and checkpoints.

It knows no terminal and no other people's checkpoints. Importing it loads nothing.
"""

__version__ = "0.1.0"
