"""How far refining encoders trust the emulator, pixel by pixel."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from starclip_lib.figures.style import CYCLE, new_axes, styled
from starclip_lib.models.encoders import Encoder
from starclip_lib.models.newton import NewtonEncoder


@styled
def trust(encoders: Mapping[str, Encoder]) -> Figure:
    """The emulator's error in each pixel as encoders have learned it, one panel an encoder.

    Parameters
    ----------
    encoders : mapping of str to Encoder
        By role; of those that refine no guess there is nothing to show, and their panel says so.

    Returns
    -------
    Figure
    """
    figure, axes = new_axes(len(encoders), 1, (9, 2.2 * len(encoders)))
    for ax, (role, encoder), colour in zip(axes, encoders.items(), CYCLE, strict=False):
        ax.set(title=f"{role} ({encoder.instrument.title})", ylabel="error of the flux")
        if not isinstance(encoder, NewtonEncoder):
            ax.text(0.5, 0.5, "a network alone: nothing is emulated", transform=ax.transAxes, ha="center")
            continue
        covered = encoder.instrument.covered
        ax.plot(encoder.instrument.wavelength[covered], encoder.model_error[covered], ".", ms=1.5, color=colour)
        ax.set(yscale="log")
    axes[-1].set_xlabel("wavelength [Å]")
    return figure
