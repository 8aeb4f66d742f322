"""Figures: functions that take arrays and return a figure; none shows or saves.

Nothing is imported before it is asked for: whoever draws spectra need not have what draws maps to click.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
