"""Embedding stores: as many spectra as there are, on disk, made by many processes and searched in bounded memory."""
