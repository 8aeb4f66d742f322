"""Evaluation beyond the run: probes, ablations, decoders, densities, transfer (notebooks 13 to 16)."""
