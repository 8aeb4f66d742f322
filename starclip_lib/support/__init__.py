"""Errors with cures, atomic files, seeds, threads, and what the machine offers."""
