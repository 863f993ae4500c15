"""Octets of a source -> text that is safe in CSV files, terminals and keys.

Keeps what it can read and writes the rest as \\xNN; never drops or replaces an octet, so that nothing is merged. Pure.
"""

import re

# Controls (C0, DEL, C1), what ends a line for Unicode, what turns the reading direction, and half surrogates. A fixed
# list, not the Unicode tables of the interpreter: a Call-ID must read the same under every Python.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def text_of(value: bytes | None) -> str:
    """Return a value as text: UTF-8 as it is, other octets and control characters as \\xNN (lower-case hex).

    A backslash that the source itself sent stays one.
    """
    if value is None:
        return ""
    text = value.decode("utf-8", "backslashreplace")
    return text if text.isprintable() else clean(text)


def clean(text: str) -> str:
    """Return text with its control characters written as the \\xNN of their octets; cleaning twice changes nothing."""
    return _UNSAFE.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return "".join(f"\\x{octet:02x}" for octet in found[0].encode("utf-8", "surrogatepass"))
