"""`starclip emulator build`: labels and physics are drawn, spectra synthesised, and a network is fitted to them."""
