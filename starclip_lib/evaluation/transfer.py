"""From one instrument or noise domain to another with a few labelled stars (as LAMOST to DESI with MLPs).

Strategies: 'zero_shot' leaves the network as it is; 'adapter' adds a small residual network to its labels; 'lora' adds
trainable matrices of low rank to its linear layers (Hu et al. 2021); 'full' trains every weight.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from starclip_lib.data.instruments import SIGMA_PER_FWHM, Instrument
from starclip_lib.data.labels import N_LABELS
from starclip_lib.data.spectra import PairedSpectra, SpectrumSet
from starclip_lib.evaluation.resampling import Interval, r2_statistic, star_weights
from starclip_lib.models.encoders import Encoder, make_encoder
from starclip_lib.seeds import seeded, seeded_weights
from starclip_lib.settings.params import Params
from starclip_lib.settings.training import EncoderParams, TrainParams
from starclip_lib.training.batches import SpectrumSource
from starclip_lib.training.loop import Trainer
from starclip_lib.transforms.corruptions import Corruption, extended_corruption, mock
from starclip_lib.transforms.views import MockTelescope

Strategy = Literal["zero_shot", "adapter", "lora", "full"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
_RATES = {"adapter": 1e-3, "lora": 1e-3, "full": 1e-4}


class LowRankLinear(nn.Module):
    """A frozen linear layer plus a trainable product of two matrices of low rank, which is 0 at the start.

    Rank 0 is the frozen layer itself.
    """

    def __init__(self, layer: nn.Linear, rank: int):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, layer.in_features) / max(1, layer.in_features) ** 0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + F.linear(F.linear(x, self.down), self.up)


class ResidualAdapter(nn.Module):
    """Labels plus a small network of them, which is 0 at the start."""

    def __init__(self, head: nn.Module, width: int = 32):
        super().__init__()
        self.head = head.requires_grad_(False)
        first, last = nn.Linear(N_LABELS, width), nn.Linear(width, N_LABELS)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.net = nn.Sequential(first, nn.GELU(), last)

    def forward(self, x: Tensor) -> Tensor:
        labels = self.head(x)
        return labels + self.net(labels)


def prepared(encoder: Encoder, strategy: Strategy, *, rank: int = 4, seed: int = 0) -> Encoder:
    """A copy of a trained encoder in which only what the strategy trains has gradients."""
    encoder = copy.deepcopy(encoder)
    encoder.requires_grad_(strategy == "full")
    with seeded_weights(seed):
        if strategy == "adapter":
            encoder.head = ResidualAdapter(encoder.head)
        elif strategy == "lora":
            _replace_linear(encoder, rank)
    return encoder


def _replace_linear(module: nn.Module, rank: int) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, LowRankLinear(child, rank))
        else:
            _replace_linear(child, rank)


def fine_tune(
    encoder: Encoder,
    flux: np.ndarray,
    labels: np.ndarray,
    strategy: Strategy,
    *,
    steps: int = 200,
    batch_size: int = 32,
    rank: int = 4,
    seed: int = 0,
) -> Encoder:
    """Adapt a trained encoder to spectra of another domain; the encoder given is left as it was.

    flux : (n, n_pix) of the few stars of the new domain; labels : (n, 20), Z-scored as the encoder predicts them
    """
    tuned = prepared(encoder, strategy, rank=rank, seed=seed)
    trained = [p for p in tuned.parameters() if p.requires_grad]
    if not trained or sum(p.numel() for p in trained) == 0:
        return tuned.eval()
    x, y = torch.from_numpy(flux), torch.from_numpy(np.asarray(labels, np.float32))
    rate = _RATES[strategy]
    optimizer = torch.optim.AdamW(trained, rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    generator = seeded("cpu", seed)
    tuned.train()
    for _ in range(steps):
        batch = torch.randint(len(x), (min(batch_size, len(x)),), generator=generator)
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(tuned(x[batch]), y[batch]).backward()
        optimizer.step()
        schedule.step()
    return tuned.eval()


@torch.no_grad()
def predict(encoder: Encoder, flux: np.ndarray) -> np.ndarray:
    """Z-scored labels (n, 20) of spectra (n, n_pix)."""
    return torch.cat([encoder(block) for block in torch.from_numpy(flux).split(512)]).numpy()


def transfer_curve(
    encoder: Encoder,
    target: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    *,
    sizes: tuple[int, ...] = (10, 50, 250),
    repeats: int = 3,
    steps: int = 200,
    n_resamples: int = 500,
    seed: int = 0,
) -> dict[Strategy, dict[int, Interval]]:
    """Mean r2 of the labels on test stars against the number of labelled stars of the new domain, for each strategy.

    target, test : spectra (n, n_pix) and Z-scored labels (n, 20); the test stars must not be among the target's
    Every repeat draws other labelled stars, the same for every strategy.  The 95 % intervals resample test stars and
    draw one of the repeats each time, so they hold both kinds of chance.  Zero-shot is given at size 0.
    """
    if max(sizes) > len(target[0]):
        raise ValueError(f"{max(sizes)} labelled stars were asked for, but there are {len(target[0])}")
    weights = star_weights(len(test[0]), n_resamples, seed)
    drawn = np.random.default_rng([seed, 0]).integers(repeats, size=n_resamples)

    def interval(predictions: list[np.ndarray]) -> Interval:
        scores = [r2_statistic(test[1], p, np.arange(len(p))) for p in predictions]
        value = np.mean([score(np.ones((1, len(test[0])))).mean() for score in scores])
        values = np.array([score(weights).mean(axis=1) for score in scores])[
            drawn % len(scores), np.arange(n_resamples)
        ]
        return Interval(float(value), *map(float, np.quantile(values, [0.025, 0.975])))

    curve: dict[Strategy, dict[int, Interval]] = {"zero_shot": {0: interval([predict(encoder, test[0])])}}
    for strategy in STRATEGIES[1:]:
        curve[strategy] = {}
        for size in sizes:
            predictions = []
            for repeat in range(repeats):
                chosen = np.random.default_rng([seed, repeat]).permutation(len(target[0]))[:size]
                tuned = fine_tune(encoder, target[0][chosen], target[1][chosen], strategy, steps=steps, seed=repeat)
                predictions.append(predict(tuned, test[0]))
            curve[strategy][size] = interval(predictions)
    return curve


def lower_resolution(flux: np.ndarray, instrument: Instrument, resolution: float) -> np.ndarray:
    """Spectra (n, n_pix) as an instrument of lower resolution sees them.

    A Gaussian turns the instrument's line-spread function into the wider one, both taken as constant in wavelength with
    their widths at the middle of the range.  Raises ValueError if the new resolution is not lower.
    """
    if not 0 < resolution < instrument.resolution:
        raise ValueError(f"the resolution must be below the instrument's {instrument.resolution:g}, not {resolution:g}")
    middle = np.median(instrument.wavelength)
    fwhm = middle * np.sqrt(resolution**-2.0 - float(instrument.resolution) ** -2)
    step = np.median(np.diff(instrument.wavelength))
    return gaussian_filter1d(flux, fwhm * SIGMA_PER_FWHM / step, axis=1, mode="nearest")


@dataclass(frozen=True)
class Domain:
    """A way to observe: a name, a corruption, and the resolution the spectra are smoothed to (None: as they are)."""

    name: str
    corruption: Corruption
    resolution: float | None = None

    def observe(self, spectra: SpectrumSet, rows: np.ndarray, seed: int) -> np.ndarray:
        """One observation of each of some stars, (len(rows), n_pix) float32."""
        flux = self.clean(spectra, rows)
        return self.corruption(torch.from_numpy(flux), seeded("cpu", seed)).numpy()

    def clean(self, spectra: SpectrumSet, rows: np.ndarray) -> np.ndarray:
        """The spectra (len(rows), n_pix) before noise and gaps, at the domain's resolution."""
        flux = spectra.flux[rows]
        return flux if self.resolution is None else lower_resolution(flux, spectra.instrument, self.resolution)


def standard_domains(data: PairedSpectra, params: Params) -> dict[str, tuple[Domain, Domain]]:
    """Pairs of domains to go from and to, by name: other corruptions, other gaps, more noise, lower resolution."""
    usual = params.corruption
    independent = usual.changed(gaps=usual.gaps.changed(model="independent"))
    bright, faint = (mock(usual.changed(snr_min=snr, snr_max=snr)) for snr in (300.0, 30.0))
    return {
        "mock → extended mock": (Domain("from", mock(usual)), Domain("to", extended_corruption(data, params))),
        "independent → detector gaps": (Domain("from", mock(independent)), Domain("to", mock(usual))),
        "SNR 300 → 30": (Domain("from", bright), Domain("to", faint)),
        "R = 2,700 → 1,500": (Domain("from", mock(usual)), Domain("to", mock(usual), 1500.0)),
    }


def train_on(
    domain: Domain,
    spectra: SpectrumSet,
    rows: tuple[np.ndarray, np.ndarray],
    labels: np.ndarray,
    encoder: EncoderParams,
    train: TrainParams,
    *,
    seed: int,
) -> Encoder:
    """Train an encoder on stars seen in one domain, with fresh corruptions at every step.

    rows : of the training and of the validation stars; labels : (n_stars, 20), Z-scored
    """
    network = make_encoder(spectra.instrument, encoder, seed)
    clean = [replace(spectra, flux=domain.clean(spectra, part), mask=spectra.mask[part]) for part in rows]
    network.fit_scaling(torch.from_numpy(clean[0].flux))
    telescope = MockTelescope(domain.corruption, 1, seed)
    sources = [
        SpectrumSource(seen, np.arange(len(part)), labels[part], torch.device("cpu"), telescope, fresh)
        for seen, part, fresh in zip(clean, rows, (True, False), strict=True)
    ]
    Trainer(train, seed, title=f"encoder, {domain.name}").pretrain(network, *sources)
    return network
