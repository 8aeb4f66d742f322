"""Stars and spectra: instruments, labels, the emulator, the data set and its file, and how stars are chosen."""
