"""Figures: functions that take arrays and return a figure; none shows or saves.

Modules are imported on first use, so drawing spectra does not require what draws interactive maps.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
