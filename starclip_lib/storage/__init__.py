"""HDF5, FITS, JSON, CSV and tensor files: declared members, size limits, and one line for each fault."""
