"""Everything beside the core that shows or runs it: figures, widgets, the runner of notebooks, reports, the command."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules=["figures", "widgets"])
