"""Observed NIRSpec spectra: reading, judging, preparing and analysing them."""
