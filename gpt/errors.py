"""Errors that a person can act on; every other exception is a bug of ours."""


class UserError(Exception):
    """One sentence: what is wrong, where, and what to do.

    Every command prints it as it is and ends with status 1.
    """
