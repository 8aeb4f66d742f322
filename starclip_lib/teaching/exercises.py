"""Answers to the exercises of the notebooks, with explanations and hints."""

from __future__ import annotations

import math

import numpy as np
from astropy import units

from starclip_lib.support.errors import DataError
from starclip_lib.teaching.checking import Answer, Exercise, first_difference, same, single

_RNG = np.random.default_rng(5)  # of the arguments that students' functions are tried on


def _drawn(*shape: int) -> np.ndarray:
    return _RNG.standard_normal(shape)


def _covariance(k: int) -> np.ndarray:
    root = _drawn(k, k)
    return root @ root.T + np.eye(k)


EXERCISES = {
    "00.1": Exercise(
        1728,
        "1,728 of 8,192 pixels. All of APOGEE lies inside NIRSpec's range, so the two do share wavelengths.",
        "compare every NIRSpec wavelength with the first and the last one of APOGEE, and count.",
        {8192: "those are all of NIRSpec's pixels.", 8575: "those are APOGEE's pixels."},
        tolerance=0.002,
        unit="pixel",
    ),
    "00.2": Exercise(
        "APOGEE",
        "its spectra come with labels that others measured; NIRSpec's stars get theirs from their neighbours.",
        "one survey has hundreds of thousands of bright stars with a pipeline behind it, the other a handful.",
        also=("the APOGEE survey", "APOGEE survey"),
    ),
    "00b.1": Exercise(
        math.log(60),
        "each of the 60 answers has probability 1/60, and minus the logarithm of that is log 60.",
        "with all seats the same, how probable is each of the 60 answers? The loss is minus the logarithm of that.",
        {60.0: "that is the number of answers; the loss is a logarithm.", math.log10(60): "use the natural logarithm."},
    ),
    "00b.2": Exercise(
        math.log(3),
        "three coinciding positions share the probability, so even a perfect arrangement has a loss of log 3.",
        "the right partner and the two copies have the same position: what is the probability of the right one?",
        {0.0: "that would be true without the two copies."},
    ),
    "01.1": Exercise(
        22500 / 2700,
        "22,500 / 2,700 = 8.3: eight APOGEE resolution elements fit into one of NIRSpec's.",
        "resolution is wavelength over width, so at the same wavelength the widths go as one over the resolution.",
        {2700 / 22500: "that is NIRSpec's over APOGEE's; how many of the narrow ones fit into a wide one?"},
        tolerance=0.05,
    ),
    "01.2": Exercise(
        299792.458 * 9000 / 8191 / 13500,
        "a pixel is 9,000 Å / 8,191 = 1.1 Å wide, and v = c Δλ / λ.",
        "how wide is a pixel in Å? Then v = c Δλ / λ with c = 299,792 km/s.",
        tolerance=0.03,
        unit="km/s",
    ),
    "02.1": Exercise(
        0.02,
        "on a continuum at 1 the noise is one over the signal-to-noise ratio.",
        "signal is 1 on the continuum. What noise makes a ratio of 50?",
        {500.0: "that is the ratio itself; the noise is what the signal of 1 is divided by."},
    ),
    "02.2": Exercise(
        8,
        "0.001 of 8,192 is 8.192, rounded to 8. Draws may hit a pixel twice, so now and then it is one fewer.",
        "a fraction of 0.001 of 8,192 pixels, as a whole number.",
        tolerance=1e-9,
        unit="pixel",
    ),
    "03.1": Exercise(
        1,
        "a Z-scored label has mean 0 and variance 1, and the error of predicting 0 is its variance.",
        "the mean of a Z-scored label is 0. What is the mean of (label - 0) squared?",
        {0.0: "only a perfect prediction has no error."},
    ),
    "03.2": Exercise(
        0.99,
        "the error is 0.1 of each star's distance from the mean, so 0.01 of the variance is left.",
        "what is a star's error in units of its distance from the mean? r² is 1 minus the mean square of that.",
        {0.9: "that is the slope; r² compares squares.", 0.81: "0.9² is the variance of the predictions, not r²."},
        tolerance=0.002,
    ),
    "04.1": Exercise(
        math.log(512),
        "log 512, whatever the scale: equal cosines stay equal when multiplied.",
        "with equal embeddings every one of the 512 answers is equally likely.",
    ),
    "04.2": Exercise(0.002, "temperature is one over the scale.", "κ = 1 / τ.", {500.0: "that is the scale."}),
    "05.1": Exercise(
        "mock",
        "its space is the one that StarCLIP shares with APOGEE; the other side has to come to it.",
        "if both moved, what would become of the APOGEE embeddings that StarCLIP aligned with one of them?",
        also=("the mock", "mock encoder", "the mock encoder", "mock spectra"),
    ),
    "05.2": Exercise(
        15,
        "all others of the batch. Large batches have harder negatives, but a few hundred stars fill few of them.",
        "each query looks for one partner in its batch of 16; all others are negatives.",
        {16.0: "the partner itself is not a negative."},
        tolerance=1e-9,
        unit="negative",
    ),
    "06.1": Exercise(
        (1 + 1 / 2 + 1 / 4) / 3,
        "the mean of 1, 1/2 and 1/4.",
        "turn every rank into one over the rank, then take the mean.",
        {7 / 3: "that is the mean rank.", 3 / 7: "one over the mean rank is not the mean of one over the rank."},
    ),
    "06.2": Exercise(
        0.001,
        "five of 5,000 candidates are right: as likely as one of 1,000.",
        "how many of the 5,000 candidates count as a hit?",
        {0.0002: "five candidates count as a hit, not one."},
    ),
    "07.1": Exercise(
        0.1,
        "2 of 20. What notebooks find beyond that is structure.",
        "twenty equal shares add up to 1; the first two components have two of them.",
    ),
    "07.2": Exercise(
        False,
        "UMAP keeps who is next to whom. How far apart groups are depends on its settings and its seed.",
        "read once more what the text above says about distances.",
    ),
    "08.1": Exercise(
        0.75,
        "r² = 1 - (RMSE / spread)², if there is no bias.",
        "r² is one minus the ratio of the *squares* of RMSE and spread.",
        {0.5: "squares, not the values themselves."},
    ),
    "08.2": Exercise(
        0.5,
        "Fisher information grows as the square of the signal-to-noise ratio, its inverse root falls with it.",
        "information goes as one over the noise squared, the bound as one over the root of information.",
        {0.25: "that is what happens to the variance; the bound is a standard deviation.", 2.0: "better data, worse?"},
    ),
    "08b.1": Exercise(
        1 / math.sqrt(1 - 0.9**2),
        "the inverse of [[1, 0.9], [0.9, 1]] has 1 / (1 - 0.81) on its diagonal, and the error is its root.",
        "write the 2 x 2 matrix of the normal equations and invert it; the error is the root of the diagonal.",
        {1 / (1 - 0.9**2): "that is the variance; the error is its root."},
    ),
    "08b.2": Exercise(
        1 / math.sqrt(2),
        "precisions add: twice the precision is 1/√2 of the error.",
        "add the two precisions (one over the variance); the error is one over the root of the sum.",
        {0.5: "that is the ratio of the variances; the error is their root."},
    ),
    "09.1": Exercise(
        lambda query, candidates: np.argmax(candidates @ query / np.linalg.norm(candidates, axis=1)),
        "a search is one product of a matrix and a vector.",
        "a cosine is the product divided by the lengths of both; the candidates differ in length.",
        trials=tuple((_drawn(5), _drawn(40, 5) * np.linspace(0.1, 9, 40)[:, None]) for _ in range(3)),
    ),
    "09.2": Exercise(
        "[Fe/H]",
        "more metal means deeper lines everywhere, and the first component is where the points differ the most.",
        "try both in the menu `colour`.",
        also=("Fe", "metallicity", "metals"),
    ),
    "10.1": Exercise(
        lambda wavelength, velocity: wavelength / (1 + velocity / 299792.458),
        "a receding star's lines come at longer wavelengths, so going back to rest makes them shorter.",
        "observed = rest (1 + v / c), with c = 299,792 km/s; which of the two do you have?",
        tolerance=1e-6,
        trials=((np.linspace(9700.0, 18900.0, 7), 62.0), (np.array([12821.6]), -120.0)),
    ),
    "10.2": Exercise(
        (3.9 - 3.7) / 0.2,
        "one sigma. That is why the table gives the number and not only a word.",
        "by how much does it exceed 3.7, in units of 0.2?",
        {0.2: "that is the distance in dex; divide by the uncertainty."},
    ),
    "11.1": Exercise(
        lambda bound, wanted: (bound / wanted) ** 2,
        "the bound goes as one over the signal-to-noise ratio, and that as the root of the time.",
        "which signal-to-noise ratio is needed, and how does it grow with time?",
        trials=((np.array([20.0, 0.1, 0.03]), np.array([50.0, 0.05, 0.03])),),
    ),
    "11.2": Exercise(
        1.22**2,
        "the signal-to-noise ratio has to grow by 1.22, and the exposure time as its square.",
        "by which factor must the signal-to-noise ratio grow, and how does it depend on time?",
        {1.22: "that is the factor of the signal-to-noise ratio.", math.sqrt(1.22): "the time grows as the square."},
    ),
    "11b.1": Exercise(
        "Si I",
        "neutral silicon makes it; some of its depth is the wing of iron's line.",
        "add one species after the other to `parts`, and look at 16,168 Å.",
        {"Fe I": "that is its deeper neighbour, at 16,169.4 Å.", "Ca I": "calcium has lines near 16,162 Å."},
        also=("Si", "silicon", "neutral silicon"),
    ),
    "11b.2": Exercise(
        math.log10(4),
        "four times the atoms make the width twice as large, and log10 of 4 is 0.60.",
        "if the width goes as the square root of the number of atoms, how many are needed for twice the width?",
        {4.0: "that is the factor; what is it in dex?", math.log10(2): "that would do on the linear part."},
        unit="dex",
    ),
    "12.1": Exercise(
        lambda information, prior: np.sqrt(np.diag(np.linalg.inv(information + np.linalg.inv(prior)))),
        "precisions add: the spectrum's and the population's.",
        "the precision of the prior is the inverse of its covariance; add, invert, and take the root of the diagonal.",
        trials=tuple((_covariance(k), _covariance(k)) for k in (1, 2, 5)),
    ),
    "12.2": Exercise(
        False,
        "the bound holds for unbiased methods; the network leans towards what is common.",
        "for which kind of method does the bound hold?",
        also=("no",),
    ),
    "13.1": Exercise(
        lambda difference, draws: np.quantile(difference[draws].mean(axis=1), [0.025, 0.975]),
        "one mean for each row of draws, and the ends of the middle 95 % of these means.",
        "index the differences with the draws, take the mean of each row, then quantiles.",
        trials=((_drawn(50), _RNG.integers(50, size=(400, 50))), (_drawn(8) + 1, _RNG.integers(8, size=(90, 8)))),
    ),
    "13.2": Exercise(
        "undecided",
        "zero lies inside the interval. It does not say that they are equal either; more test stars would.",
        "look whether zero lies inside the interval.",
        {"yes": "zero lies inside as well.", "no": "zero lies inside, but not alone."},
        also=("not decided", "it is undecided", "open"),
    ),
    "13b.1": Exercise(
        0.84**0.5,
        "the error that is common to all stars is 0.4 of the whole error, so the scatter is the root of 1 - 0.4².",
        "squares add: the mean square error is the square of the bias plus the variance.",
    ),
    "13b.2": Exercise(
        "linear",
        "it learned on theory NIRSpec spectra, and knows neither physics nor how observed spectra differ.",
        "which of the two learned from NIRSpec spectra of theory, and which only blurs and compares pixels?",
    ),
    "14.1": Exercise(
        lambda normal, planted: np.mean(planted > np.quantile(normal, 0.99)),
        "the threshold comes from the normal pairs alone, and the planted ones are only counted.",
        "which score do one in a hundred normal pairs exceed? Count the planted ones above it.",
        trials=tuple((np.linspace(1, 0, 5000), np.linspace(low, low + 1, 1000)) for low in (0.0, 0.5, 0.9)),
        tolerance=0.05,
    ),
    "14.2": Exercise(
        100 * 6 / (6 + 99.9),
        "6 real ones among some 106 alarms. When anomalies are rare, most alarms are false even at 1 %.",
        "count both: the real ones found, and 1 % of the 9,990 normal stars.",
        {60.0: "that many are found; how many alarms are real?", 6 / 105.9: "the question asks for per cent."},
        tolerance=0.05,
        unit="%",
    ),
    "15.1": Exercise(
        lambda samples, truth: np.mean(samples < truth[:, None], axis=1),
        "the share of the samples below the truth; over many stars it must be uniform.",
        "compare each row of samples with its own truth, and take the mean of each row.",
        trials=((_drawn(30, 16), _drawn(30)), (_drawn(5, 200), 3 * _drawn(5))),
    ),
    "15.2": Exercise(
        "narrow",
        "the truth lies in the outermost quantiles more often than stated.",
        "a ∪ has too many stars at PIT near 0 and 1. Where does the truth lie then?",
        also=("too narrow", "they are too narrow", "narrower"),
    ),
    "16.1": Exercise(
        lambda x, weight, down, up: x @ (weight + up @ down).T,
        "the correction has the layer's shape and the rank of the thin matrices.",
        "the layer is x @ weight.T; the correction is added to the weight, and is a product of up and down.",
        trials=((_drawn(7, 12), _drawn(9, 12), _drawn(4, 12), _drawn(9, 4)),),
        tolerance=1e-6,
    ),
    "16.2": Exercise(4.0, "(4 n)^(−0.5) is half of n^(−0.5).", "which factor f has f^(−0.5) = 1/2?"),
}


def check(name: str, answer: Answer | None) -> None:
    """Print whether the answer to an exercise is right, and why, or a hint; None means not answered yet.

    Parameters
    ----------
    name : str
        Of the exercise, such as '00.1'.
    answer : float, str, bool or callable, optional
        A function is called with arrays made for the purpose, and what it returns is compared with the right result.

    Raises
    ------
    DataError
        If there is no such exercise.
    """
    if name not in EXERCISES:
        raise DataError(f"there is no exercise {name}; there are {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    answer = single(answer)
    if answer is None:
        print(f"{name}: waiting for your answer; put it in place of None and run this cell again.")
    elif exercise.is_right(answer):
        print(f"{name}: right, {exercise.because}")
    elif exercise.trials and callable(answer):
        print(f"{name}: not yet. Hint: {exercise.hint} {first_difference(exercise, answer)}")
    elif not exercise.trials and not isinstance(answer, str | bool | int | float | units.Quantity):
        print(f"{name}: not yet. Hint: the answer is one number or word; this is a {type(answer).__name__}.")
    elif exercise.trials:
        print(f"{name}: not yet. Hint: the answer is a function itself, without brackets behind its name.")
    else:
        close = [
            hint for wrong, hint in exercise.hints.items() if same(answer, wrong, exercise.tolerance, exercise.unit)
        ]
        print(f"{name}: not yet. Hint: {(close or [exercise.hint])[0]}")


def is_right(name: str, answer: Answer) -> bool:
    """Whether an answer is right, within the exercise's tolerance or in another accepted spelling."""
    return EXERCISES[name].is_right(single(answer))
