"""How long work reports what it does."""

from collections.abc import Callable

Callback = Callable[[str], None]  # called with one line of text
