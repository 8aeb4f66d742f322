"""LTE synthesis of spectra: gas, continuous opacity, atmosphere, lines, transfer, broadening (docs/synthesis.md)."""
