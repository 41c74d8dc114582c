"""The error that a person can act on. Every other exception is a bug in this program."""


class UserError(Exception):
    """One sentence that says what is wrong, where, and what to do.

    Every command prints the sentence and ends with status 1.
    """


class UsageError(UserError):
    """Options that do not fit together: a command line that is not understood, with status 2."""
