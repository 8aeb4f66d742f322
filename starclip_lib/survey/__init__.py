"""Large collections of spectra: downloads, files of the surveys, and stores of embeddings."""
