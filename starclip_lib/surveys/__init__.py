"""Where data sets come from: a simulated survey, the public archive, and the paper's own files."""
