"""Figures of the evaluation and of the limits draw the numbers that they are given."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from figure_data import line
from matplotlib.axes import Axes

from starclip_lib import figures
from starclip_lib.models.checkpoint import History
from starclip_lib.physics.instruments import NIRSPEC
from starclip_lib.physics.labels import ASPCAP_ERROR, LABELS, label_index
from starclip_lib.suite.pairs import PERCENTS
from starclip_lib.suite.resampling import Interval
from starclip_lib.suite.scaling import PowerLaw
from starclip_lib.suite.strata import Stratum


def bars(ax: Axes, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 2) and ends of the error bars (n, 2, 2) of a series."""
    data, _, (ends,) = ax.containers[number]
    return np.column_stack(data.get_data()), np.array(ends.get_segments())


def test_intervals_of_labels_reach_from_end_to_end(rng: np.random.Generator) -> None:
    value = rng.normal(size=20)
    found = [Interval(v, v - 0.1, v + 0.3) for v in value]
    ax = figures.label_intervals({"linear": {"NIRSpec": found, "APOGEE": found}}, "gain").axes[0]
    for number, shift in enumerate((-0.11, 0.11)):  # side by side
        xy, ends = bars(ax, number)
        np.testing.assert_allclose(xy, np.column_stack([value, np.arange(20) + shift]))
        np.testing.assert_allclose(ends[:, 0, 0], value - 0.1)
        np.testing.assert_allclose(ends[:, 1, 0], value + 0.3)
    assert ax.get_xlabel() == "gain"


def test_strata_are_relative_to_the_error_of_all() -> None:
    bins = [Stratum(0, 2, 9, Interval(3.0, 2.0, 5.0)), Stratum(2, 6, 9, Interval(1.0, 0.5, 1.5))]
    ax = figures.strata_curves({"SNR": {"Fe": bins}}, {"Fe": 2.0}).axes[0]
    xy, ends = bars(ax, 0)
    assert xy.tolist() == [[1, 1.5], [4, 0.5]]
    assert ends[:, :, 1].tolist() == [[1, 2.5], [0.25, 0.75]]


def test_top_percent_has_chance_on_its_diagonal(rng: np.random.Generator) -> None:
    value = rng.random(len(PERCENTS))
    (ax,) = figures.top_percent({"a": (value, value - 0.1, value + 0.1)}).axes
    np.testing.assert_allclose(line(ax, "a"), np.column_stack([PERCENTS, value]))
    np.testing.assert_allclose(line(ax, "chance"), np.column_stack([PERCENTS, np.array(PERCENTS) / 100]))
    low, high = ax.collections[0].get_paths()[0].get_extents().intervaly
    assert (low, high) == pytest.approx((value.min() - 0.1, value.max() + 0.1))


def test_ratios_of_distances_are_counted() -> None:
    ax = figures.distance_ratios({"a": np.array([0.5, 0.8, 0.9, 2.0])}).axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a: 75.0% below 1"]
    assert max(ax.patches[0].get_xy()[:, 1]) == 1


def test_regions_show_what_is_not_explained() -> None:
    (ax,) = figures.region_scores({"t": {"network": [0.99, 0.9]}}, [(9000.0, 11000.0), (11000.0, 13000.0)]).axes
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.01, 0.1])
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1.00", "1.20"]


def test_detection_rates_stand_beside_each_other() -> None:
    (ax,) = figures.detection_rates({"pair": {"angle": 0.9, "line": 0.1}, "element": {"angle": 0.2, "line": 0.5}}).axes
    assert [[round(bar.get_height()) for bar in bars] for bars in ax.containers] == [[90, 20], [10, 50]]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["pair", "element"]


def test_pit_histograms_are_densities(rng: np.random.Generator) -> None:
    pit = rng.random(300)
    axes = figures.pit_histograms({"Fe": {"one": pit, "two": pit**2}}, n_bins=10).axes
    for ax, values in zip(axes, (pit, pit**2), strict=True):
        heights = [patch.get_height() for patch in ax.patches]
        np.testing.assert_allclose(heights, np.histogram(values, np.linspace(0, 1, 11), density=True)[0])


def test_slopes_and_transfer_are_drawn_at_their_places() -> None:
    ax = figures.attenuation_slopes([10, 100], {"Fe": {"linear": [0.5, 0.9]}}, {"Fe": 0.95}).axes[0]
    assert line(ax, "linear").tolist() == [[10, 0.5], [100, 0.9]]
    assert line(ax, "linear, without noise")[:, 1].tolist() == [0.95, 0.95]
    few, zero = {10: Interval(0.6, 0.5, 0.8), 50: Interval(0.7, 0.6, 0.75)}, {0: Interval(0.4, 0.3, 0.5)}
    ax = figures.transfer_curves({"domain": {"zero_shot": zero, "lora": few}}).axes[0]
    assert line(ax, "zero-shot")[:, 1].tolist() == [0.4, 0.4]
    xy, ends = bars(ax, 0)
    assert xy.tolist() == [[10, 0.6], [50, 0.7]]
    np.testing.assert_allclose(ends[:, :, 1], [[0.5, 0.8], [0.6, 0.75]])


def test_ablation_and_scaling_draw_histories_and_laws() -> None:
    history = History([1.0, 1.0], [1.0, 1.0], [0.2, 0.6], [1e-3] * 2, [1.0] * 2)
    value = np.linspace(0, 1, len(PERCENTS))
    left, right = figures.ablation_curves({"full": history}, {"full": (value, value, value)}).axes
    assert line(left, "full").tolist() == [[1, 0.2], [2, 0.6]]
    np.testing.assert_allclose(line(right, "full"), np.column_stack([PERCENTS, value]))
    law = PowerLaw(0.5, 0.7, 0.02, 100.0, 0.1, 0.01)
    (ax,) = figures.scaling_laws([100, 400], {"16": [0.52, 0.21]}, {"16": law}).axes
    assert line(ax, "16").tolist() == [[100, 0.52], [400, 0.21]]
    fine = ax.lines[1].get_xydata()
    np.testing.assert_allclose(fine[:, 1], 0.02 + 0.5 * (fine[:, 0] / 100) ** -0.7)


def test_bounds_are_drawn_beside_the_catalogues_error(rng: np.random.Generator) -> None:
    bound, iron = rng.random((3, 20)), label_index("Fe")
    (ax,) = figures.bounds_against([30, 100, 300], {"NIRSpec": bound}, ["Fe"], "SNR per pixel").axes
    np.testing.assert_allclose(line(ax, "NIRSpec"), np.column_stack([[30, 100, 300], bound[:, iron]]))
    assert line(ax, "catalogue's own error")[:, 1].tolist() == [ASPCAP_ERROR[iron]] * 2
    ratio = rng.uniform(1, 2, 20)
    (ax,) = figures.errors_over_limit({"network": ratio}).axes
    np.testing.assert_allclose(line(ax, "network"), np.column_stack([np.arange(20), ratio]))
    ratios = rng.uniform(1, 2, (3, 20))
    (ax,) = figures.ratio_by_snr([50, 100, 200], ratios).axes
    np.testing.assert_allclose(line(ax, "median of the labels")[:, 1], np.median(ratios, axis=1))
    np.testing.assert_allclose([drawn.get_ydata() for drawn in ax.lines[:20]], ratios.T)


def test_the_ladder_has_a_step_for_each_method_that_searches_in_a_direction() -> None:
    scores = {"success@1": 0.8, "interval": {"success@1": [0.7, 0.9]}}
    steps = {"overlap": {"a_to_b": scores}, "fit": {"a_to_b": scores, "b_to_a": {**scores, "success@1": 0.85}}}
    one, other = figures.ladder(steps, {"a_to_b": "there", "b_to_a": "back"}).axes
    assert [tick.get_text() for tick in one.get_yticklabels()] == ["overlap", "fit"]
    assert [bar.get_width() for bar in one.patches] == [0.8, 0.8]
    assert [bar.get_width() for bar in other.patches] == [0.85]
    ends = np.concatenate([c.get_segments()[0] for c in other.collections])
    np.testing.assert_allclose(ends[:, 0], [0.7, 0.9])


def test_information_is_summed_in_bins_and_gaps_cost_per_cent() -> None:
    """All information of a label in two pixels, one with four times the other's: roots of 1 and a half."""
    density = np.ones((20, NIRSPEC.n_pix))
    density[5] = 0
    density[5, [1000, 6000]] = 4, 1
    image = np.asarray(figures.information_map(density, NIRSPEC).axes[0].images[0].get_array())[5]
    assert sorted(image[image > 0]) == pytest.approx([0.5, 1])
    place = int((NIRSPEC.wavelength[1000] - 9000) // 50)
    assert image[place] == pytest.approx(1)
    cost = np.full((2, len(LABELS)), 1.0)
    cost[1, 7] = 1.25
    image = figures.gap_costs(cost, np.array([9000.0, 12000.0])).axes[0].images[0]
    np.testing.assert_allclose(image.get_array()[7], [0, 25])


def test_failed_measurements_show_what_was_fitted_or_what_was_observed() -> None:
    wave, flux = np.linspace(15000, 16000, 101), np.full(101, 4.0)
    flux[50] = 2.0
    spectrum = SimpleNamespace(wavelength=wave, flux=flux)
    fit = SimpleNamespace(wavelength=wave, flux=flux / 5, model=flux / 5 + 0.01)
    fitted = SimpleNamespace(name="a", verdict="good", reason="", fits=(fit,))
    aside = SimpleNamespace(name="b", verdict="set aside", reason="too dark " * 30, fits=())
    left, right = figures.failed_measurements([spectrum, spectrum], [fitted, aside], (15200, 15800)).axes
    np.testing.assert_allclose(line(left, "best model")[:, 1], fit.model[21:80])
    np.testing.assert_allclose(line(left, "observed")[:, 1], fit.flux[21:80])
    np.testing.assert_allclose(line(right, "observed")[:, 1], flux[21:80] / 4)
    assert right.get_title(loc="left").startswith("b: set aside\ntoo dark")
    assert len(right.get_title(loc="left")) < 100
