"""How close are labels of observed NIRSpec spectra to the bound that marginalises the physics?

    python benchmarks/physics_bound.py [params/quick.yaml]

The posterior of a fit with the emulator's 19 parameters of physics as nuisances is the van Trees bound of a spectrum
whose physics is unknown.  Printed for the observed spectra of a finished run, one view of each test star: the root mean
square of its standard deviations, and over it the errors of that fit and of the methods of the contest (which
`starclip contest PARAMS --views 1` or notebook 13b has left).
"""

from __future__ import annotations

import sys

import numpy as np

from starclip_lib.physics.labels import FE, LABELS, LOGG, TEFF
from starclip_lib.run import Run
from starclip_lib.storage.json_files import read_json
from starclip_lib.suite.contestants import Contest, new_fits

_SHOWN = {"Teff": TEFF, "logg": LOGG, "Fe": FE}


def main() -> None:
    """Fit and print."""
    run = Run.open(sys.argv[1] if len(sys.argv) > 1 else "params/quick.yaml")
    contest = Contest(run, 1)
    if contest.observed is None:
        sys.exit(f"error: run {run.params.name} has no observed NIRSpec spectra; set data.world to realistic")
    nirspec, _ = new_fits(contest, physics=True)
    found = nirspec.posterior(contest.views(contest.observed, contest.test))
    mean, covariance = contest.population.physical(found)
    sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    bound = np.sqrt((sigma**2).mean(axis=0))
    ratio = np.sqrt(((mean - contest.truth("observed")) ** 2).mean(axis=0)) / bound
    print("bound:", ", ".join(f"{name} {bound[i]:.3g}" for name, i in _SHOWN.items()))
    print(f"physics, all twenty labels, over it: median {np.median(ratio):.2f}, largest {ratio.max():.2f}", end=" ")
    print(f"({LABELS[int(ratio.argmax())]})")
    for file in sorted((run.report / "contest-1").glob("*.json")):
        labels = read_json(file, dict)["labels"].get("observed", {})
        over = {name: labels[name] / bound[i] for name, i in _SHOWN.items() if name in labels}
        if over:
            print(f"{file.stem:<12}", ", ".join(f"{name} {value:.2f}" for name, value in over.items()))


if __name__ == "__main__":
    main()
