"""The one exception that a person, not a programmer, is meant to read."""


class InputError(ValueError):
    """Something given to the program is wrong and the user can mend it.

    The message is one line: what came, what was wanted, what to do. The commands print it and exit
    with a non-zero status instead of showing a traceback.
    """


def words(error: BaseException) -> str:
    """What an error says, in one line, or else what it is called."""
    return one_line(str(error)) or type(error).__name__


def one_line(text: str) -> str:
    """The text with every run of white space, ends of lines among them, as one space."""
    return " ".join(text.split())
