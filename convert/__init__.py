"""Converts Hugging Face checkpoints to checkpoints of this program.

Only this package knows the tensor names of other programs. Bad input raises UserError, whose
message says what is wrong, where, and what to do.
"""
