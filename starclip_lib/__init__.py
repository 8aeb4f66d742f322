"""StarCLIP: APOGEE and JWST/NIRSpec spectra of giant stars in one space."""

__version__ = "0.1.0"
