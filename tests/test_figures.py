"""Figures take arrays, return figures with labelled axes, and keep nothing open."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from starclip_lib import figures
from starclip_lib.data.fitting import fit_spectrum
from starclip_lib.data.instruments import APOGEE, NIRSPEC
from starclip_lib.data.labels import LABELS
from starclip_lib.metrics.probing import Predictions, score_labels
from starclip_lib.models.checkpoint import History
from starclip_lib.settings.training import GapParams
from starclip_lib.surveys.apogee import ApogeeSpectrum
from starclip_lib.transforms.gaps import GapModel, read_gaps, read_trace_image


def every_figure(survey) -> dict[str, Figure]:
    rng = np.random.default_rng(0)
    labels, apogee, nirspec = survey.labels, survey.apogee.flux, survey.nirspec.flux
    gaps, kde = read_gaps(), GapModel.measured(GapParams(model="independent")).kde
    predicted = labels + 0.1 * rng.normal(size=labels.shape)
    scores = {"one": score_labels(labels, predicted)}
    predictions = Predictions(survey.star_id, predicted, np.full(labels.shape, 0.1))
    circle = np.stack([np.cos(np.arange(4)), np.sin(np.arange(4))], axis=1)
    xy = rng.normal(size=(len(labels), 2))
    bounds = {"bound": dict.fromkeys(LABELS, 0.05)}
    real = ApogeeSpectrum("2M1", apogee[0], survey.apogee.ivar[0], survey.apogee.mask[0])
    return {
        "kiel": figures.kiel_diagram(labels),
        "spread": figures.spread_check(labels),
        "patterns": figures.abundance_patterns(labels),
        "correlations": figures.label_correlations(labels),
        "metallicities": figures.metallicity_histograms({"all": labels[:, 16], "some": labels[:9, 16]}),
        "pairs": figures.example_pairs(apogee[:2], nirspec[:2], labels[:2]),
        "residuals": figures.residuals(apogee[0], np.abs(apogee[1]), (15900, 16400)),
        "steps": figures.corruption_steps({"a": nirspec[0], "b": nirspec[1]}),
        "before and after": figures.before_and_after(nirspec[0], nirspec[1], (9000, 18000)),
        "traces": figures.trace_image(read_trace_image(), gaps),
        "draws": figures.gap_draws(gaps, {"a": (gaps.start, gaps.start), "b": (gaps.start, gaps.start)}),
        "densities": figures.gap_densities(gaps, kde),
        "neighbours": figures.neighbours(apogee[0], apogee[1:3], ["q", "1", "2"], APOGEE.wavelength, (15700, 15800)),
        "observed": figures.observed_spectrum(NIRSPEC.wavelength, nirspec[0], np.zeros(8192, bool), nirspec[1], "star"),
        "losses": figures.loss_curves({"a": History([1.0, 0.5], [1.0, 0.6], [0.1, 0.4], [1e-3] * 2, [1.0] * 2)}),
        "predicted": figures.predicted_against_true(labels, {"one": predictions}, scores),
        "similarity": figures.similarity_matrices({"a": np.eye(4), "b": np.eye(4)}),
        "success": figures.success_curves({"a": np.array([1.0, 7.0])}, lambda k: min(1, k / 40), "title"),
        "maps": figures.maps(xy, labels, "PC"),
        "place": figures.place_on_map(xy, labels, xy[0], xy[1:4], "star"),
        "modalities": figures.modalities_map(xy, np.repeat(["NIRSpec", "APOGEE"], len(xy) // 2), "PC"),
        "bounds": figures.errors_and_bounds(scores, bounds),
        "cosines": figures.cosine_histograms({"a": rng.uniform(0.5, 1, 50)}),
        "iron": figures.over_iron(labels, {"one": predicted}),
        "real": figures.real_over_emulated([real], [fit_spectrum(real.flux, real.ivar, APOGEE)]),
        "study": figures.study(
            pd.DataFrame({"treatment": ["a", "a", "b", "b"], "star": ["1", "2"] * 2, "Teff [K]": [1, 2, 3, 4]})
        ),
        "groups": figures.groups_on_circles({"before": (circle, circle)}, np.arange(4)),
        "circles": figures.circles({"before": (circle, circle), "after": (circle, circle)}),
    }


@pytest.fixture(scope="module")
def drawn(survey) -> dict[str, Figure]:
    return every_figure(survey)


def test_every_figure_draws_and_names_its_axes(drawn: dict[str, Figure], tmp_path) -> None:
    for name, figure in drawn.items():
        figure.savefig(tmp_path / f"{name}.png", dpi=40)
        visible = [ax for ax in figure.axes if ax.axison]
        assert any(ax.get_xlabel() for ax in visible) or name in (
            "circles",
            "groups",
            "spread",
            "correlations",
            "bounds",
            "iron",
        ), name
        assert any(ax.get_ylabel() for ax in visible) or name in ("circles", "groups", "correlations", "study"), name


def test_nothing_stays_open_and_the_users_style_is_untouched(survey) -> None:
    before = dict(mpl.rcParams)
    every_figure(survey)
    assert pyplot.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_wavelengths_and_labels_carry_units(drawn: dict[str, Figure]) -> None:
    assert drawn["kiel"].axes[0].get_xlabel() == r"$T_{\rm eff}$ [K]"
    assert drawn["neighbours"].axes[1].get_xlabel() == "vacuum wavelength [Å]"
    assert drawn["kiel"].axes[0].xaxis_inverted()
    assert drawn["kiel"].axes[0].yaxis_inverted()


def test_explorer_has_every_label_in_its_menu(survey) -> None:
    xy = np.zeros((survey.n_stars, 2))
    figure = figures.explorer(xy, survey.labels, list(survey.star_id), "UMAP")
    assert len(figure.layout.updatemenus[0].buttons) == 20
    assert figure.layout.updatemenus[0].buttons[0].label == "[Fe/H] [dex]"
    assert "SIM000003" in figure.data[0].text[3]


def test_loss_curve_marks_the_epoch_that_was_kept() -> None:
    figure = figures.loss_curves({"a": History([3.0, 2.0, 1.0], [3.0, 1.5, 2.5], [], [1e-3] * 3, [1.0] * 3)})
    assert figure.axes[0].lines[2].get_xydata().tolist() == [[2, 1.5]]
