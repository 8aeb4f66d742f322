"""What happens to spectra: the five corruptions, detector gaps, the pseudo-continuum, and the mock telescope."""
