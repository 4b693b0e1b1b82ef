"""The one exception that means "the user can mend this"."""


class UserError(ValueError):
    """A mistake that the user can mend: the message says what was given, what is right and how to get there.

    The command line prints it as one line and exits with code 2; library users can catch it as a `ValueError`.
    """
