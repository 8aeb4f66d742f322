"""StarCLIP: APOGEE and JWST/NIRSpec spectra of giant stars in one space.

The front door: what notebooks and scripts use, under one name each.  Nothing is imported before it is asked for.

    import starclip_lib as starclip

    star = starclip.measure("spec1d_star.fits")
    star.plot()
    star.abundance("Mg", over="Fe")

    run = starclip.open_run("quick")
    run.neighbours("SIM000123", k=5)
"""

import lazy_loader

from starclip_lib.support.machine import prepare_environment

prepare_environment()  # what PyTorch, numba and Jupyter read when they are loaded, later

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
