"""Every setting of a run, its default, its bounds and its meaning; parameter files are read against them."""
