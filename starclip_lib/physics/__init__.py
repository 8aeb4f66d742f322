"""Instruments, labels, line-spread functions, the emulator and the population of giants."""
