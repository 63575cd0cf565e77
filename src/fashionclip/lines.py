"""Text in one line: captions, cells of tables, and what other libraries say in their errors."""

MAX_REASON_CHARS = 300


def one_line(text: str) -> str:
    """Replace every run of white space, line ends included, by one space."""
    return " ".join(text.split())


def reason_of(error: BaseException, *, width: int = MAX_REASON_CHARS) -> str:
    """Another library's message as part of a line; the error's type if it says nothing.

    Args:
        error: what was raised.
        width: characters at most; the rest is cut off.
    """
    return one_line(str(error))[:width] or type(error).__name__
