"""The error that a person can act on. Every other exception is a bug in this program."""


class UserError(Exception):
    """One sentence that says what is wrong, where, and what to do.

    Every command prints the sentence and ends with status 1.
    """
