"""docs/data-formats.md, made from the declarations of what is read and written."""

from __future__ import annotations

from collections.abc import Mapping

import jinja2
from pydantic import BaseModel

from starclip_lib.data.spectrum_set import MIN_PIXELS
from starclip_lib.models.checkpoint import ModelFile
from starclip_lib.physics.labels import LABELS, UNITS
from starclip_lib.storage.fits_files import SPECTRUM_BYTES
from starclip_lib.storage.formats import (
    AP_STAR,
    ASPCAP_STAR,
    DATA_SET,
    EMBEDDINGS,
    ONE_SPEC,
    SPEC1D,
    X1D,
    DataSetAttributes,
)
from starclip_lib.storage.schema import Member
from starclip_lib.support.files import size_text
from starclip_lib.survey.allstar import CATALOGUE_COLUMNS


def formats_page() -> str:
    """The page as Markdown."""
    loader = jinja2.PackageLoader("starclip_lib.lab", "templates")
    environment = jinja2.Environment(  # Markdown, not HTML
        undefined=jinja2.StrictUndefined, loader=loader, keep_trailing_newline=True
    )
    return environment.get_template("data-formats.md.j2").render(
        members=_members,
        attributes=_attributes,
        data_set=DATA_SET,
        data_set_attributes=DataSetAttributes,
        embeddings=EMBEDDINGS,
        model_file=ModelFile,
        spec1d=SPEC1D,
        one_spec=ONE_SPEC,
        x1d=X1D,
        aspcap_star=ASPCAP_STAR,
        ap_star=AP_STAR,
        labels=", ".join(f"{name} [{unit}]" for name, unit in zip(LABELS, UNITS, strict=True)),
        catalogue=", ".join(f"`{name}`" for name in CATALOGUE_COLUMNS if not name.endswith(("_ERR", "_FLAG")))
        + " with `_ERR` and `_FLAG`",
        min_pixels=MIN_PIXELS,
        spectrum_bytes=size_text(SPECTRUM_BYTES),
    )


def _members(members: Mapping[str, Member]) -> str:
    lines = ["| member | what | kind | shape | unit | bounds |", "|---|---|---|---|---|---|"]
    for name, member in members.items():
        what = member.meaning + (", unique" if member.unique else "") + (" (optional)" if member.optional else "")
        bounds = member.range_text + ("" if member.finite else " (NaN: no data)")
        shape = f"({', '.join(map(str, member.shape))}{',' if len(member.shape) == 1 else ''})"
        lines.append(f"| `{name}` | {what} | {member.kind} | {shape} | {member.unit} | {bounds.strip()} |")
    return "\n".join(lines)


def _attributes(model: type[BaseModel]) -> str:
    lines = ["| key | what |", "|---|---|"]
    for name, field in model.model_fields.items():
        lines.append(f"| `{name}` | {' '.join((field.description or '').split())} |")
    return "\n".join(lines)
