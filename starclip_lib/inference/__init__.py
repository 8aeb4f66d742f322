"""Posteriors of stellar labels: the Gauss-Newton fit, Bayes factors and Fisher information."""
