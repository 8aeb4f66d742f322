"""The errors that users meet; the command prints them as one line."""

from __future__ import annotations


class StarclipError(Exception):
    """Something the user can mend; the message says what was wrong and what to do."""


class ConfigError(StarclipError):
    """A parameter that is unknown, of the wrong type or out of range."""


class DataError(StarclipError):
    """Input that is missing, damaged or does not fit."""
