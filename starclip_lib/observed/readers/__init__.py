"""Readers of observed spectra: one module for each kind of file."""
