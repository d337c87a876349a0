"""What a word of a text is."""

from __future__ import annotations

import re

# As TextAttack tells words apart: letters, digits and look-alikes, with apostrophes and the like inside.
_CHARACTER = r"(?:[^\W_]|[˗`×])"
WORD = re.compile(rf"({_CHARACTER}(?:(?:{_CHARACTER}|['\-_*@])*{_CHARACTER})?)")


def apart(text: str) -> list[str]:
    """A text in pieces: words at the odd places, and what stands between them at the even ones."""
    return WORD.split(text)
