"""StarCLIP: APOGEE and JWST/NIRSpec spectra of giant stars in one space.

The front door: what notebooks and scripts use, under one name each.  Nothing is imported before it is asked for.

    import starclip_lib as starclip

    run = starclip.open_run("quick")
    star = run.data.star("SIM000123")
    run.neighbours(star, k=5)
    run.labels(starclip.read_spectra("folder"))
"""

import os

import lazy_loader

# Threads that wait for each other sleep.  By default they spin, which beside other busy programs makes small networks
# several times slower (benchmarks/threads.py).  PyTorch reads this when it is loaded, later; kernels inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.2.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
