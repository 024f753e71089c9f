"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Wrong use or bad input, as one sentence: what was wrong, where, and what to do.

    The command line prints the sentence on stderr, without a traceback, and exits with 2.
    """
