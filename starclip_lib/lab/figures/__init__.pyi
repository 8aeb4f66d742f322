# What the namespace offers, and where each figure lives; `lazy_loader` and type checkers read it.
from .atoms import continuum, curves_of_growth, growing_line, spectrum_by_species
from .benchmark import (
    label_intervals,
    strata_curves,
    top_percent,
)
from .corruptions import before_and_after, corruption_steps, gap_densities, gap_draws, trace_image
from .embeddings import (
    distance_ratios,
    explorer,
    maps,
    modalities_map,
    place_on_map,
    similarity_matrices,
    success_curves,
)
from .evaluation import (
    ablation_curves,
    attenuation_slopes,
    detection_rates,
    pit_histograms,
    region_scores,
    scaling_laws,
    transfer_curves,
)
from .fitting import descent, responses
from .limits import (
    bounds_against,
    errors_and_bounds,
    errors_over_limit,
    gap_costs,
    information_map,
    ladder,
    ratio_by_snr,
)
from .measured import against_catalogue, failed_measurements, fitted_spectrum
from .predictions import MAIN_LABELS, loss_curves, over_iron, predicted_against_true, study
from .reliability import robustness
from .spectra import example_pairs, neighbours, observed_spectrum, real_over_emulated, residuals
from .stars import (
    abundance_patterns,
    kiel_diagram,
    label_correlations,
    metallicity_histograms,
    spread_check,
)
from .teaching import circles, controls, failures, groups_on_circles, line_growth, overlap, shares, shrinkage, sweep

__all__ = [
    "MAIN_LABELS",
    "ablation_curves",
    "abundance_patterns",
    "against_catalogue",
    "attenuation_slopes",
    "before_and_after",
    "bounds_against",
    "circles",
    "continuum",
    "controls",
    "corruption_steps",
    "curves_of_growth",
    "descent",
    "detection_rates",
    "distance_ratios",
    "errors_and_bounds",
    "errors_over_limit",
    "example_pairs",
    "explorer",
    "failed_measurements",
    "failures",
    "fitted_spectrum",
    "gap_costs",
    "gap_densities",
    "gap_draws",
    "groups_on_circles",
    "growing_line",
    "information_map",
    "kiel_diagram",
    "label_correlations",
    "label_intervals",
    "ladder",
    "line_growth",
    "loss_curves",
    "maps",
    "metallicity_histograms",
    "modalities_map",
    "neighbours",
    "observed_spectrum",
    "over_iron",
    "overlap",
    "pit_histograms",
    "place_on_map",
    "predicted_against_true",
    "ratio_by_snr",
    "real_over_emulated",
    "region_scores",
    "residuals",
    "responses",
    "robustness",
    "scaling_laws",
    "shares",
    "shrinkage",
    "similarity_matrices",
    "spectrum_by_species",
    "spread_check",
    "strata_curves",
    "study",
    "success_curves",
    "sweep",
    "top_percent",
    "trace_image",
    "transfer_curves",
]
