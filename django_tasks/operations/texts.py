"""Texts that tasks have made, as they can be written to a page or a terminal."""


def encodable(text: str) -> str:
    r"""Return the text with halves of surrogate pairs as their escapes, ``\udcff``, which is how JSON has them, too.

    Names of files hold them where they are no UTF-8. What is sent or printed can't.
    """
    return text if text.isascii() else text.encode(errors="backslashreplace").decode()
