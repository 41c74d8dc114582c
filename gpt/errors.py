"""Errors that a person can act on; every other exception is a bug of ours."""


class UserError(Exception):
    """One sentence: what is wrong, where, and what to do.

    Every command prints it as it is and ends with status 1.
    """


def printable(text: str) -> str:
    """Text that may quote a file's bytes; nothing in it is for the terminal to obey."""
    return "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in text)
