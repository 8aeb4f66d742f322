"""Figures take arrays, return figures with labelled axes, and keep nothing open."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from figure_data import line, points
from matplotlib import pyplot
from matplotlib.figure import Figure

from starclip_lib import figures
from starclip_lib.inference.spectrum import fit_spectrum
from starclip_lib.lab.figures.style import empty_axes
from starclip_lib.metrics.probing import Predictions, score_labels
from starclip_lib.models.checkpoint import History
from starclip_lib.physics.instruments import APOGEE, NIRSPEC
from starclip_lib.physics.labels import FE, LABELS, LOGG, PUBLISHED_SPREAD, TEFF, label_index
from starclip_lib.settings.training import GapParams
from starclip_lib.survey.apogee import ApogeeSpectrum
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
        "modalities": figures.modalities_map({"a": (xy[:5], xy[5:10], ("PC 1", "PC 2"))}),
        "bounds": figures.errors_and_bounds(scores, bounds),
        "ratios": figures.distance_ratios({"a": rng.uniform(0.5, 2, 50)}),
        "iron": figures.over_iron(labels, {"one": predicted}),
        "real": figures.real_over_emulated([real], [fit_spectrum(real.flux, real.ivar, APOGEE)]),
        "study": figures.study(
            pd.DataFrame({"treatment": ["a", "a", "b", "b"], "star": ["1", "2"] * 2, "Teff [K]": [1, 2, 3, 4]})
        ),
        "groups": figures.groups_on_circles({"before": (circle, circle)}, np.arange(4)),
        "circles": figures.circles({"before": (circle, circle), "after": (circle, circle)}),
        "growth": figures.line_growth(
            APOGEE.wavelength, {"a": apogee[0], "b": apogee[1]}, (15735, 15785), {"Mg": 15745}
        ),
        "overlap": figures.overlap(
            (APOGEE.wavelength, apogee[0]), *[(NIRSPEC.wavelength, nirspec[n]) for n in (0, 1)], (15650, 15800)
        ),
        "failures": figures.failures(nirspec[:2] - nirspec[2:4], np.array([0.01, 0.02]), ["one", "two"]),
        "sweep": figures.sweep((0.01, 0.1, 1.0), {"a": [0.1, 0.5, 0.2]}, {"before": 0.1}),
        "shrinkage": figures.shrinkage(xy, -0.5 * xy, ["Teff", "Fe"]),
        "controls": figures.controls({"a": np.linspace(0, 1, 19), "b": np.zeros(19)}, skip=FE),
        "shares": figures.shares({"a": 0.5, "b": 0.0}, 40),
    }


@pytest.fixture(scope="module")
def drawn(survey) -> dict[str, Figure]:
    return every_figure(survey)


def test_every_figure_draws_and_names_its_axes(drawn: dict[str, Figure], tmp_path) -> None:
    """But for label names at the ticks, the unit circle, and what shares an axis, both axes say what they are."""
    plain_x, plain_y = (
        {"circles", "groups", "spread", "correlations", "bounds", "iron", "controls"},
        {"circles", "groups", "shares"},
    )
    for name, figure in drawn.items():
        assert empty_axes(figure) == [], name
        assert figure.get_figwidth() * figure.dpi > 1000, name
        figure.savefig(tmp_path / f"{name}.png", dpi=40)
        visible = [ax for ax in figure.axes if ax.axison]
        assert any([figure.get_supxlabel(), *(ax.get_xlabel() for ax in visible)]) == (name not in plain_x), name
        assert any([figure.get_supylabel(), *(ax.get_ylabel() for ax in visible)]) == (
            name not in plain_y | {"study"}
        ), name


def test_empty_axes_and_curves_of_one_point_are_found() -> None:
    figure = Figure()
    curve, nothing, dot, image = figure.subplots(1, 4)
    curve.plot([1, 2], [3, 4])
    nothing.plot([1, 2], [np.nan, np.nan], label="gone")
    nothing.axhline(0)
    dot.plot([1], [2], "o")  # markers may stand alone
    dot.plot([1, 2], [2, np.nan], label="short")
    image.imshow(np.full((2, 2), np.nan))
    assert empty_axes(figure) == [
        "axis 2 (without a title) has no finite data",
        "axis 2 (without a title) has a curve of 0 finite points: gone",
        "axis 3 (without a title) has a curve of 1 finite points: short",
        "axis 4 (without a title) has no finite data",
    ]


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


def test_stars_are_drawn_at_their_labels(survey) -> None:
    labels = survey.labels
    xy, colour = points(figures.kiel_diagram(labels).axes[0])
    order = np.argsort(labels[:, FE])[::-1]  # the metal-poor ones on top
    np.testing.assert_allclose(xy, labels[order][:, [TEFF, LOGG]])
    np.testing.assert_allclose(colour, labels[order, FE])
    for ax, element in zip(figures.abundance_patterns(labels, ("Mg", "Mn")).axes, ("Mg", "Mn"), strict=False):
        xy, colour = points(ax)
        np.testing.assert_allclose(xy[:, 1], labels[:, label_index(element)] - labels[:, FE], atol=1e-6)
        np.testing.assert_allclose(colour, labels[:, LOGG])
    (spread,) = [drawn for drawn in figures.spread_check(labels).axes[0].lines if len(drawn.get_ydata()) == 20]
    np.testing.assert_allclose(spread.get_ydata(), labels.std(axis=0) / PUBLISHED_SPREAD)
    image = figures.label_correlations(labels).axes[0].images[0]
    np.testing.assert_allclose(image.get_array(), np.corrcoef(labels.T), atol=1e-6)


def test_histograms_of_metallicity_are_fractions() -> None:
    values = {"all": np.array([0.0, 0.0, 0.0, 1.0]), "one": np.array([0.5])}
    ax = figures.metallicity_histograms(values).axes[0]
    for patch, group in zip(ax.patches, values.values(), strict=True):
        heights, edges = np.histogram(group, np.linspace(0, 1, 31))
        drawn = patch.get_xy()
        assert drawn[:, 1].max() == pytest.approx(heights.max() / len(group))
        assert (drawn[:, 0].min(), drawn[:, 0].max()) == (edges[0], edges[-1])


def test_spectra_are_drawn_inside_the_window_and_not_in_gaps(survey) -> None:
    apogee, wave = survey.apogee.flux, APOGEE.wavelength
    inside = (wave >= 15700) & (wave <= 15800)
    top, bottom = figures.neighbours(apogee[0], apogee[1:3], ["q", "1", "2"], wave, (15700, 15800)).axes
    shown = [np.where(flux == 0, np.nan, flux)[inside] for flux in apogee[:3]]
    for name, flux in zip(("q", "1", "2"), shown, strict=True):
        np.testing.assert_array_equal(line(top, name), np.column_stack([wave[inside], flux]))
    np.testing.assert_array_equal(bottom.lines[1].get_ydata(), shown[2] - shown[0])

    nirspec = survey.nirspec.flux[:2].copy()
    nirspec[1, 3000:3300], nirspec[1, 500] = 1, 1  # a gap, and a dead pixel, which is drawn
    top, bottom = figures.before_and_after(*nirspec, (9000, 18000)).axes
    seen = nirspec[1].astype(float)
    seen[3000:3300] = np.nan
    np.testing.assert_array_equal(line(top, "ab initio")[:, 1], nirspec[0])
    np.testing.assert_array_equal(line(top, "corrupted")[:, 1], seen)
    np.testing.assert_allclose(bottom.lines[0].get_ydata(), seen - nirspec[0])

    missing = NIRSPEC.wavelength < 11000
    (ax,) = figures.observed_spectrum(NIRSPEC.wavelength, nirspec[0], missing, nirspec[1], "star").axes
    np.testing.assert_array_equal(line(ax, "observed")[:, 1], np.where(missing, np.nan, nirspec[0]))
    np.testing.assert_array_equal(line(ax, "best template")[:, 1], np.where(missing, np.nan, nirspec[1]))
    assert ax.get_xlim() == (NIRSPEC.wavelength[~missing][0], NIRSPEC.wavelength[-1])


def test_real_spectra_are_drawn_over_their_fits(survey) -> None:
    real = ApogeeSpectrum("2M1", survey.apogee.flux[0], survey.apogee.ivar[0], survey.apogee.mask[0])
    fit = fit_spectrum(real.flux, real.ivar, APOGEE)
    top, bottom = figures.real_over_emulated([real], [fit]).axes
    inside = (APOGEE.wavelength >= 16680) & (APOGEE.wavelength <= 16800)
    flux, mask, continuum, model = (x[inside] for x in (real.flux, real.mask, fit.continuum, fit.model))
    on_chip = continuum > 0
    observed, emulated = (line(top, name)[:, 1] for name in ("observed", "emulated"))
    np.testing.assert_array_equal(np.isnan(observed), mask | ~on_chip)
    np.testing.assert_allclose(observed[~mask] * continuum[~mask], flux[~mask])
    np.testing.assert_allclose(emulated[on_chip] * continuum[on_chip], model[on_chip])
    np.testing.assert_allclose(bottom.lines[1].get_ydata(), observed - emulated)
    assert top.texts[0].get_text().startswith(f"2M1: fit {fit.labels[TEFF]:.0f} K")


def test_gaps_are_drawn_where_they_were_measured() -> None:
    gaps = read_gaps()
    (ax,) = figures.trace_image(read_trace_image(), gaps).axes
    for lines, low, high in zip(
        ax.collections,
        (gaps.start, 18000 - gaps.cutoff_width),
        (gaps.start + gaps.width, np.full(len(gaps), 18000)),
        strict=True,
    ):
        ends = np.array(lines.get_segments())
        np.testing.assert_allclose(ends[:, 0], np.column_stack([low, np.arange(84) + 0.5]))
        np.testing.assert_allclose(ends[:, 1], np.column_stack([high, np.arange(84) + 0.5]))
    ax = figures.gap_draws(gaps, {"a": (gaps.width, gaps.start), "b": (gaps.start, gaps.width)}).axes[0]
    np.testing.assert_array_equal(line(ax, "drawn"), np.column_stack([gaps.width, gaps.start]))
    np.testing.assert_array_equal(line(ax, "measured"), np.column_stack([gaps.start, 18000 - gaps.cutoff_width]))


def test_predictions_are_drawn_with_residuals_and_scores(survey) -> None:
    labels = survey.labels.astype(float)
    predicted = labels + 0.1 * np.arange(20)
    scores = {"one": score_labels(labels, predicted)}
    axes = figures.predicted_against_true(labels, {"one": predicted}, scores, ("Fe", "Mg")).axes
    for top, bottom, name in zip(axes[:2], axes[2:], ("Fe", "Mg"), strict=True):
        i = label_index(name)
        np.testing.assert_allclose(top.lines[0].get_data(), [labels[:, i], predicted[:, i]])
        np.testing.assert_allclose(bottom.lines[0].get_data(), [labels[:, i], np.full(len(labels), 0.1 * i)])
        assert f"RMSE {0.1 * i:.3g}" in top.texts[0].get_text()
        assert f"Δ {0.1 * i:+.2g}" in top.texts[0].get_text()


def test_success_curves_count_ranks(drawn: dict[str, Figure]) -> None:
    """Ranks 1 and 7: half until the sixth result, all from the seventh on."""
    (ax,) = drawn["success"].axes
    k = np.arange(1, 101)
    np.testing.assert_array_equal(line(ax, "a"), np.column_stack([k, np.where(k < 7, 0.5, 1.0)]))
    np.testing.assert_allclose(line(ax, "chance")[:, 1], np.minimum(1, k / 40))


def test_maps_have_the_points_coloured_by_label(survey, rng: np.random.Generator) -> None:
    xy, labels = rng.normal(size=(survey.n_stars, 2)), survey.labels
    for ax, name in zip(figures.maps(xy, labels, "PC").axes, ("Teff", "logg", "Fe", "Mg"), strict=False):
        found, colour = points(ax)
        np.testing.assert_allclose(found, xy)
        np.testing.assert_allclose(colour, labels[:, label_index(name)])
    ax = figures.place_on_map(xy, labels, xy[0], xy[1:4], "star").axes[0]
    np.testing.assert_allclose(line(ax, "star"), xy[:1])
    np.testing.assert_allclose(line(ax, "nearest APOGEE stars"), xy[1:4])
    (ax,) = figures.modalities_map({"a": (xy[:4], xy[4:8], ("x", "y"))}).axes
    for drawn, places in zip(ax.collections, (xy[:4], xy[4:8]), strict=True):
        np.testing.assert_allclose(drawn.get_offsets(), places)
    np.testing.assert_allclose([joined.get_xydata() for joined in ax.lines], np.stack([xy[:4], xy[4:8]], axis=1))


def test_matrices_are_drawn_on_one_scale() -> None:
    matrices = {"a": np.eye(4), "b": 0.5 * np.eye(4) + 0.5}
    first, second, _ = figures.similarity_matrices(matrices).axes
    for ax, matrix in zip((first, second), matrices.values(), strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), matrix)
        assert ax.images[0].get_clim() == (0, 1)


def test_errors_are_drawn_in_units_of_the_spread(survey) -> None:
    labels = survey.labels.astype(float)
    predicted = labels + PUBLISHED_SPREAD / 4 * np.where(np.arange(len(labels)) % 2, 1, -1)[:, None]
    bounds = {"bound": dict(zip(LABELS, PUBLISHED_SPREAD / 10, strict=True))}
    (ax,) = figures.errors_and_bounds({"one": score_labels(labels, predicted)}, bounds).axes
    np.testing.assert_allclose(line(ax, "one")[:, 1], 0.25)
    np.testing.assert_allclose(line(ax, "bound")[:, 1], 0.1)

    (ax,) = figures.over_iron(labels, {"one": predicted}).axes
    others = [i for i in range(2, 20) if i != FE]
    spread = (labels[:, others] - labels[:, [FE]]).std(axis=0)
    np.testing.assert_allclose([bar.get_height() for bar in ax.patches], spread)
    np.testing.assert_allclose(
        line(ax, "error of [X/Fe], one")[:, 1], np.abs(PUBLISHED_SPREAD[others] - PUBLISHED_SPREAD[FE]) / 4, atol=1e-9
    )


def test_the_study_has_a_panel_a_label_and_a_row_a_treatment(drawn: dict[str, Figure]) -> None:
    (ax,) = drawn["study"].axes
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["a", "b"]
    assert line(ax, "1").tolist() == [[1, 0], [3, 1]]
    assert line(ax, "2").tolist() == [[2, 0], [4, 1]]
    assert ax.get_xlabel() == "Teff [K]"


def test_pairs_are_joined_on_the_circle(drawn: dict[str, Figure]) -> None:
    circle = np.stack([np.cos(np.arange(4)), np.sin(np.arange(4))], axis=1)
    ax = drawn["circles"].axes[-1]
    np.testing.assert_allclose(line(ax, "NIRSpec"), circle)
    np.testing.assert_allclose(line(ax, "APOGEE"), circle)
    inner, outer = (np.asarray(found.get_offsets()) for found in drawn["groups"].axes[0].collections)
    np.testing.assert_allclose(inner, 0.95 * circle)
    np.testing.assert_allclose(outer, 1.05 * circle)


def test_the_explorer_colours_the_map_by_any_label(survey, rng: np.random.Generator) -> None:
    xy = rng.normal(size=(survey.n_stars, 2))
    figure = figures.explorer(xy, survey.labels, list(survey.star_id), "UMAP")
    (trace,) = figure.data
    np.testing.assert_allclose(np.column_stack([trace.x, trace.y]), xy, atol=6e-4)
    np.testing.assert_allclose(trace.marker.color, survey.labels[:, FE], atol=6e-4)
    teff, logg, iron = survey.labels[3][[TEFF, LOGG, FE]]
    assert trace.text[3] == f"SIM000003<br>Teff {teff:.0f} K, log g {logg:.2f}, [Fe/H] {iron:+.2f}"
    buttons = {button.label: button.args[0] for button in figure.layout.updatemenus[0].buttons}
    assert len(buttons) == 20
    assert next(iter(buttons)) == "[Fe/H] [dex]"
    mg = buttons["[Mg/H] [dex]"]
    np.testing.assert_allclose(mg["marker.color"][0], survey.labels[:, label_index("Mg")], atol=6e-4)
    assert mg["marker.colorbar.title.text"] == "[Mg/H] [dex]"


def test_loss_curve_marks_the_epoch_that_was_kept() -> None:
    history = History([3.0, 2.0, 1.0], [3.0, 1.5, 2.5], [0.1, 0.3, 0.2], [1e-3] * 3, [1.0] * 3)
    left, right = figures.loss_curves({"a": history}).axes
    assert line(left, "training").tolist() == [[1, 3], [2, 2], [3, 1]]
    assert line(left, "validation").tolist() == [[1, 3], [2, 1.5], [3, 2.5]]
    assert left.lines[2].get_xydata().tolist() == [[2, 1.5]]
    assert line(right, "partner is the nearest").tolist() == [[1, 0.1], [2, 0.3], [3, 0.2]]
