"""What in a text may say who a person is, made unreadable: the last line of defence, behind not writing it at all.

Which columns of a form are contact data is not here: that follows from their types (`shared/notices/columns.py`).
"""

import re

_MOBILE = re.compile(r"(?<!\d)(1[3-9]\d)\d{4}(\d{4})(?!\d)")
_LANDLINE = re.compile(r"(?<![0-9A-Za-z])(0\d{2,3}[- ]?)\d{7,8}(?![0-9A-Za-z])")
_IDENTITY = re.compile(r"(?<![0-9A-Za-z])\d{6}(?:19|20)\d{9}[\dXx](?![0-9A-Za-z])")
_MAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")


def redact(text: str) -> str:
    """Telephone numbers, identity numbers and e-mail addresses made unreadable."""
    text = _IDENTITY.sub("******************", _MOBILE.sub(r"\1****\2", text))
    return _MAIL.sub("***@***", _LANDLINE.sub(r"\1********", text))
