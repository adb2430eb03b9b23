"""Text of others, such as an account's name, as part of a line."""

import unicodedata

_BREAKING = frozenset({"Cc", "Zl", "Zp"})
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # they reorder what is around them


def one_line(text: str) -> str:
    """Put a space where a character would end the line, or steer the terminal."""
    return "".join(
        " " if character in _TURNING or unicodedata.category(character) in _BREAKING else character
        for character in text
    )
