"""Answers to the exercises of the notebooks, with explanations and hints."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starclip_lib.support.errors import DataError

Answer = float | str | bool


@dataclass(frozen=True)
class Exercise:
    """The answer to an exercise: why it is right, other spellings of it, and hints for wrong answers."""

    right: Answer
    because: str
    hint: str
    hints: Mapping[Answer, str] = field(default_factory=dict)  # for particular wrong answers
    tolerance: float = 0.02  # relative, of numbers
    also: tuple[str, ...] = ()


EXERCISES = {
    "00.1": Exercise(
        1728,
        "1,728 of 8,192 pixels. All of APOGEE lies inside NIRSpec's range, so the two do share wavelengths.",
        "compare every NIRSpec wavelength with the first and the last one of APOGEE, and count.",
        {8192: "those are all of NIRSpec's pixels.", 8575: "those are APOGEE's pixels."},
        tolerance=0.002,
    ),
    "00.2": Exercise(
        "APOGEE",
        "its spectra come with labels that others measured; NIRSpec's stars get theirs from their neighbours.",
        "one survey has hundreds of thousands of bright stars with a pipeline behind it, the other a handful.",
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
    "04.2": Exercise(
        0.002,
        "temperature is one over the scale.",
        "κ = 1 / τ.",
        {500.0: "that is the scale; the paper calls its scale of 15.5 a temperature as well."},
    ),
    "05.1": Exercise(
        "mock",
        "its space is the one that StarCLIP shares with APOGEE; the other side has to come to it.",
        "if both moved, what would become of the APOGEE embeddings that StarCLIP aligned with one of them?",
    ),
    "05.2": Exercise(
        15,
        "all others of the batch. Large batches have harder negatives, but a few hundred stars fill few of them.",
        "each query looks for one partner in its batch of 16; all others are negatives.",
        {16.0: "the partner itself is not a negative."},
        tolerance=1e-9,
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
        "R@1",
        "the share of queries whose first result is the right star.",
        "you looked at the first row only, and counted stars.",
        {"MRR": "that would give credit for the second and third row as well."},
        also=("SuccessRate@1", "success rate@1", "success rate at 1", "R1", "recall@1"),
    ),
    "09.2": Exercise(
        "[Fe/H]",
        "more metal means deeper lines everywhere, and the first component is where the points differ the most.",
        "try both in the menu `colour`.",
        also=("Fe/H", "Fe", "FeH", "metallicity"),
    ),
    "10.1": Exercise(
        1.3,
        "Δλ = λ v / c = 13,000 Å × 30 / 299,792: a little more than a pixel.",
        "Δλ / λ = v / c, with c = 299,792 km/s.",
    ),
    "10.2": Exercise(
        (3.9 - 3.7) / 0.2,
        "one sigma. That is why the table gives the number and not only a word.",
        "by how much does it exceed 3.7, in units of 0.2?",
        {0.2: "that is the distance in dex; divide by the uncertainty."},
    ),
    "11.1": Exercise(
        1.22**2,
        "the signal-to-noise ratio has to grow by 1.22, and the exposure time as its square.",
        "by which factor must the signal-to-noise ratio grow, and how does it depend on time?",
        {1.22: "that is the factor of the signal-to-noise ratio.", math.sqrt(1.22): "the time grows as the square."},
    ),
    "11.2": Exercise(
        500,
        "a bound five times smaller needs a SNR five times higher, and twenty-five times the exposure.",
        "the bound goes as one over the SNR.",
        {2500.0: "that is how the exposure time grows; the SNR goes as its root."},
    ),
    "12.1": Exercise(
        0.3,
        "it answers with the population's mean and is wrong by the spread, unless other labels help it.",
        "without any information, what would you answer, and how wrong would you be?",
        {
            0.0: "that would be perfect knowledge.",
            math.inf: "that is the bound of an unbiased method, without a prior.",
        },
    ),
    "12.2": Exercise(
        False,
        "the bound holds for unbiased methods; the network leans towards what is common.",
        "for which kind of method does the bound hold?",
    ),
    "13.1": Exercise(
        "undecided",
        "zero lies inside the interval. It does not say that they are equal either; more test stars would.",
        "look whether zero lies inside the interval.",
        {
            "yes": "the middle of the interval is above zero, but zero lies inside.",
            "no": "zero lies inside, but not alone.",
        },
    ),
    "13.2": Exercise(
        5.0,
        "each place is as likely as any other for a partner drawn at random, and 50 of 1,000 are 5 %.",
        "the right star could be in any of the 1,000 places; how many of them are among the best 50?",
        {0.05: "as a fraction, yes; the question asks for per cent."},
    ),
    "14.1": Exercise(0.96, "r² is one minus the unexplained share.", "r² is the share that is explained."),
    "14.2": Exercise(
        100 * 6 / (6 + 99.9),
        "6 real ones among some 106 alarms. When anomalies are rare, most alarms are false even at 1 %.",
        "count both: the real ones found, and 1 % of the 9,990 normal stars.",
        {60.0: "that is how many of the real ones are found; how many alarms are real?"},
        tolerance=0.05,
    ),
    "15.1": Exercise(
        0.8,
        "2² / (2² + 1²): variances add, not standard deviations.",
        "use the formula above; the spreads go in as squares.",
        {2 / 3: "variances, not standard deviations."},
    ),
    "15.2": Exercise(
        "narrow",
        "the truth lies in the outermost quantiles more often than stated.",
        "a ∪ has too many stars at PIT near 0 and 1. Where does the truth lie then?",
        also=("too narrow",),
    ),
    "16.1": Exercise(
        4096,
        "4 × (512 + 512), in place of 262,144.",
        "two thin matrices: 4 by 512 and 512 by 4.",
        {262144: "that is the layer itself, which stays frozen."},
    ),
    "16.2": Exercise(4.0, "(4 n)^(−0.5) is half of n^(−0.5).", "which factor f has f^(−0.5) = 1/2?"),
}


def check(name: str, answer: Answer | None) -> None:
    """Print whether the answer to an exercise is right, and why, or a hint; None means not answered yet.

    Parameters
    ----------
    name : str
        Of the exercise, such as '00.1'.
    answer : float, str or bool, optional

    Raises
    ------
    DataError
        If there is no such exercise.
    """
    if name not in EXERCISES:
        raise DataError(f"there is no exercise {name}; there are {', '.join(EXERCISES)}")
    exercise = EXERCISES[name]
    given: Any = answer
    answer = given.item() if hasattr(given, "item") else given  # NumPy's numbers and truth values are answers too
    if answer is None:
        print(f"{name}: waiting for your answer; put it in place of None and run this cell again.")
    elif is_right(name, answer):
        print(f"{name}: right, {exercise.because}")
    else:
        close = [hint for wrong, hint in exercise.hints.items() if _same(answer, wrong, exercise.tolerance)]
        print(f"{name}: not yet. Hint: {(close or [exercise.hint])[0]}")


def is_right(name: str, answer: Answer) -> bool:
    """Whether an answer is right, within the exercise's tolerance or in another accepted spelling."""
    exercise = EXERCISES[name]
    return any(_same(answer, right, exercise.tolerance) for right in (exercise.right, *exercise.also))


def _same(answer: Answer, other: Answer, tolerance: float) -> bool:
    if isinstance(other, str) or isinstance(answer, str):
        return str(answer).strip().casefold() == str(other).casefold()
    if isinstance(other, bool) or isinstance(answer, bool):
        return answer is other
    return math.isclose(float(answer), float(other), rel_tol=tolerance, abs_tol=1e-9)
