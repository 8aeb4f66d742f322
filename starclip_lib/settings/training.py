"""The settings of corruptions, encoders and trainings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from starclip_lib.settings.base import Count, Few, Fraction, NotNegative, Positive, Section, Width, check_order


class GapParams(Section):
    """Detector gaps."""

    model: Literal["detector", "independent"] = "detector"
    """'detector': gap and red cut-off move together, as on the real detectors; 'independent': the paper's."""
    width: Annotated[float, Field(gt=0, le=4000)] = 374.0
    """Width of the gap between the detectors in G140H, Angstrom (model 'detector')."""
    detector_length: Annotated[float, Field(ge=500, le=20_000)] = 4810.0
    """Stretch that each detector covers, before and after the gap, Angstrom (model 'detector')."""
    blue_edge: Annotated[float, Field(ge=1000, le=16_000)] = 9700.0
    """Nothing is seen below it, Angstrom: the filter F100LP begins there (model 'detector')."""


class CorruptionParams(Section):
    """The five corruptions (notebook 02; Table 2 of the paper)."""

    paschen_radius: Annotated[float, Field(gt=0, le=500)] = 10.0
    """(i) Half-width of the substituted neighbourhoods, Angstrom."""
    dead_fraction: Annotated[float, Field(ge=0, le=0.9)] = 0.001
    """(ii) Fraction of pixels set to 1."""
    continuum_amplitude: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """(iii) Largest continuum error, alpha in equation 4.5."""
    continuum_degree: Annotated[int, Field(ge=1, le=20)] = 8
    """(iii) Degree of the polynomial."""
    snr_min: Positive = 30.0
    """(iv) Lowest signal-to-noise ratio per pixel."""
    snr_max: Positive = 300.0
    """(iv) Highest signal-to-noise ratio per pixel."""
    gaps: GapParams = GapParams()
    """(v) Detector gaps."""
    continuum_spacing: Annotated[float, Field(ge=0, le=9000)] = 0.0
    """After all of them, divide by a pseudo-continuum with knots this far apart, Angstrom, as is done to observed
    spectra; 0: keep the continuum (the paper)."""
    n_views: Few = 5
    """Fixed corrupted copies of each spectrum: in evaluation always, in training if `fresh` is off."""
    fresh: bool = True
    """Draw new corruptions in every epoch; off: the paper's fixed copies."""

    @model_validator(mode="after")
    def _in_order(self) -> CorruptionParams:
        check_order(("snr_min", self.snr_min), ("snr_max", self.snr_max))
        return self


class TrainParams(Section):
    """One training: mean loss over a batch, best epoch on the validation stars kept."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 20
    """Passes over the training stars (over all their copies, where those are fixed)."""
    batch_size: Annotated[int, Field(ge=2, le=1_000_000)] = 128
    learning_rate: Annotated[float, Field(gt=0, le=10)] = 1e-3
    """Base learning rate; the highest one for 'one_cycle'."""
    optimizer: Literal["adamw", "adam"] = "adamw"
    """'adamw': decoupled weight decay; 'adam': L2 regularisation, added to the gradient (the paper's alignments)."""
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 0.01
    """Of the weights; a learned temperature has none."""
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "one_cycle"
    """'step' and 'cosine' change the rate after every epoch, 'one_cycle' (warm-up, cosine to zero) after every step."""
    step_size: Count = 5
    """Epochs between two steps of 'step'."""
    step_factor: Annotated[float, Field(gt=0, le=10)] = 0.1
    """Factor on the rate at each step of 'step'."""
    cosine_epochs: Count = 80
    """Half period of 'cosine' (T_max)."""
    cosine_floor: Annotated[float, Field(ge=0, le=10)] = 5e-6
    """Lowest rate of 'cosine' (eta_min)."""
    patience: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Stop after so many epochs without improvement; 0: never."""
    tolerance: NotNegative = 1e-3
    """What counts as an improvement of the validation loss for `patience`."""


class EncoderParams(Section):
    """Architecture of an encoder."""

    kind: Literal["residual_mlp", "starnet"] = "residual_mlp"
    """'starnet': the paper's CNN (Table 1); 'residual_mlp': ours, which sees the whole spectrum at once."""
    input_scaling: Literal["standard", "none"] = "standard"
    """'standard': subtract the mean training spectrum and divide by the overall standard deviation, pixels without data
    at 0; 'none': the flux as it is (the paper)."""
    width: Width = 512
    """Units of each hidden layer (residual_mlp)."""
    depth: Annotated[int, Field(ge=1, le=64)] = 2
    """Residual blocks (residual_mlp)."""
    lift: Annotated[float, Field(ge=0, le=10_000)] = 9.0
    """Constant appended to the label vector before it is brought to unit length, so that the length of that vector
    (metallicity, mostly) survives; the larger, the flatter the space.  0: the paper's plain 20 dimensions."""


class FitParams(Section):
    """The fit of the emulator that stands beside the networks (notebook 08b)."""

    guess: Literal["network", "mean"] = "network"
    """Where its steps begin: at the labels that the pretrained network predicts, or at the population's mean."""
    steps: Annotated[int, Field(ge=1, le=50)] = 2
    """Gauss-Newton steps; from the mean it takes five or six."""


class PretrainParams(Section):
    """Supervised pretraining of the two encoders (notebook 03)."""

    encoder: EncoderParams = EncoderParams()
    apogee: TrainParams = TrainParams()
    nirspec: TrainParams = TrainParams()
    nirspec_input: Literal["clean", "mock"] = "mock"
    """What the NIRSpec encoder learns from: ab initio spectra as they are (the paper) or their mock observations."""
    nirspec_stars: Literal["catalogue", "emulated"] = "catalogue"
    """Whose spectra the NIRSpec encoder sees: those of the training stars, or of new ones at every step, with labels
    around theirs and spectra from the emulator."""
    smoothing: Fraction = 0.7
    """How far the labels of emulated stars lie from those of the training stars: 0 on them, 1 anywhere in a Gaussian of
    the same mean and covariance."""
    leak: bool = False
    """Rebuild the published evaluation: pretrain on another random split than the one that judges, and scale the labels
    with all stars.  Only to show what that is worth."""


class SupervisedParams(Section):
    """Supervised CNN baselines on mock and on extended mock spectra (notebooks 03 and 05)."""

    encoder: EncoderParams = EncoderParams(kind="starnet")
    mock: TrainParams = TrainParams(epochs=10, batch_size=64)
    extended: TrainParams = TrainParams(batch_size=16, weight_decay=5e-4)
    """Fine-tuning of the fully connected layers on the few extended-mock stars."""


class AlignParams(Section):
    """Contrastive alignment of two encoders."""

    train: TrainParams = TrainParams(epochs=30, learning_rate=3e-4, weight_decay=0.05)
    logit_scale: Annotated[float, Field(gt=0, le=1e5)] = 50.0
    """Similarities are multiplied by it (1 / temperature)."""
    learn_scale: bool = True
    """Let training change the scale, up to `max_scale`."""
    max_scale: Annotated[float, Field(gt=0, le=1e5)] = 100.0
    """Largest scale.  CLIP's 100 suits the plain sphere; with a lift, cosines lie closer together as its square."""
    same_star: Literal["masked", "negative"] = "masked"
    """Other copies of the same star in a batch: left out of the loss, or treated as negatives (the paper)."""
    label_weight: Annotated[float, Field(ge=0, le=1e4)] = 1.0
    """Weight of the labels' mean squared error beside the contrastive loss; 0: contrastive loss alone (the paper)."""


CALIBRATION_STARS = 200  # with fewer, chance correlations of twenty labels pass for information


class StarclipParams(AlignParams):
    """StarCLIP (notebook 04)."""

    calibrate: bool = False
    """After the alignment, give the space coordinates in which cosines are log Bayes factors of "one star" against
    "two": labels that both encoders know well count for more. Fitted to the validation stars, of which it needs 200."""


class MockParams(Section):
    """MockStarCLIP (notebook 05)."""

    n_stars: Annotated[int, Field(ge=16, le=10_000_000)] = 250
    """Stars to align with, spread evenly over [Fe/H] and divided by the split of the data set."""
    feh_bins: Few = 30
    """Bins of [Fe/H] for the even spread."""
    n_test_extra: Annotated[int, Field(ge=0, le=10_000_000)] = 5000
    """More test stars, chosen the same way; as many as the data set's test split has, if that is fewer."""
    copies: Few = 1
    """Fixed corrupted copies of each of these stars in training, if `corruption.fresh` is off."""
    align: AlignParams = AlignParams(
        train=TrainParams(epochs=60, batch_size=64, learning_rate=3e-4, weight_decay=0.0),
        label_weight=0.0,
    )
