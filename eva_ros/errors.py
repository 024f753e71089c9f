"""The one exception that is meant for the person at the keyboard."""


class UserError(Exception):
    """Wrong use or bad input, as one sentence: what was wrong, where, and what to do.

    The command line prints the sentence on stderr, without a traceback, and exits with 2.
    """


class NotFiniteError(UserError):
    """A value that is nan or infinite where a number is needed: nothing may be made of it.

    Attributes:
        fact: what is not finite.

    Args:
        fact: what is not finite, as a clause.
        advice: what to do; ends the sentence.
    """

    def __init__(self, fact: str, advice: str) -> None:
        super().__init__(fact, advice)
        self.fact = fact

    def __str__(self) -> str:
        return '{}: {}.'.format(*self.args)
