"""What our pages need of Sphinx: formulas as MathML, glossary terms linked from the text, words for pictures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import latex2mathml.converter
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode
from sphinx.writers.html5 import HTML5Translator

from starclip_lib.lab.execution import alternative_text

GLOSSARY = "docs/glossary"
_ENTRY = re.compile(r"^- \*\*(.+?)\*\*:", re.MULTILINE)


def formula(self: HTML5Translator, node: nodes.math) -> None:
    """A formula in a line."""
    self.body.append(latex2mathml.converter.convert(node.astext()))
    raise nodes.SkipNode


def displayed_formula(self: HTML5Translator, node: nodes.math_block) -> None:
    """A formula on its own, in a box that can be scrolled on a phone."""
    self.body.append(f'<div class="formula">{latex2mathml.converter.convert(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


class GlossaryLinks(SphinxPostTransform):
    """The first time that a page has a term of the glossary in a paragraph, it becomes a link to its entry."""

    default_priority = 400

    def run(self, **kwargs: object) -> None:
        """Change the page."""
        if self.env.docname == GLOSSARY or self.env.docname.startswith("docs/api"):
            return
        terms = dict(self.env.glossary_terms)  # type: ignore[attr-defined]
        for paragraph in list(self.document.findall(nodes.paragraph)):
            for text in list(paragraph.findall(nodes.Text)):
                if isinstance(text.parent, nodes.paragraph) and terms:
                    self._link(text, terms)

    def _link(self, text: nodes.Text, terms: dict[str, str]) -> None:
        pattern = "|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True))
        found = re.search(rf"(?<![\w-])({pattern})(?![\w-])", text.astext())
        if found is None:
            return
        anchor = terms[found[1]]
        for name in [name for name, where in terms.items() if where == anchor]:
            del terms[name]
        whole, builder = text.astext(), self.app.builder
        link = make_refnode(builder, self.env.docname, GLOSSARY, anchor, nodes.Text(found[1]))
        link["classes"].append("glossary-term")
        rest = nodes.Text(whole[found.end() :])
        text.parent.replace(text, [nodes.Text(whole[: found.start()]), link, rest])
        if terms:
            self._link(rest, terms)


def read_glossary(app: Sphinx, env: object, docnames: list[str]) -> None:
    """Terms, and the anchors that `mark_entries` gives them."""
    page = (Path(app.srcdir) / f"{GLOSSARY}.md").read_text(encoding="utf-8")
    env.glossary_terms = {  # type: ignore[attr-defined]
        term: anchor_of(entry) for entry in _ENTRY.findall(page) for term in entry.split(", ")
    }


def anchor_of(entry: str) -> str:
    """The anchor of an entry of the glossary."""
    return "term-" + re.sub(r"\W+", "-", entry).strip("-").lower()


def mark_entries(app: Sphinx, doctree: nodes.document) -> None:
    """Give each entry of the glossary its anchor."""
    if app.env.docname != GLOSSARY:
        return
    for item in doctree.findall(nodes.list_item):
        strong = next(iter(item.findall(nodes.strong)), None)
        if strong is not None:
            item["ids"].append(anchor_of(strong.astext()))


def describe_pictures(app: Sphinx, docname: str, content: list[str]) -> None:
    """Words for the pictures of a notebook, for those who cannot see them."""
    if not docname.startswith("notebooks/"):
        return
    notebook = json.loads(content[0])
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            source = "".join(cell["source"])
            cell["metadata"]["mystnb"] = {"image": {"alt": alternative_text(source)}}
            cell["metadata"]["tags"] = [tag for tag in cell["metadata"].get("tags", ()) if tag != "nbval-skip"]
    content[0] = json.dumps(notebook)


def leave_to_its_module(app: Sphinx, what: str, name: str, thing: object, skip: bool, options: object) -> bool | None:
    """What the front door offers is described where it lives, and once."""
    return True if app.env.temp_data.get("autodoc:module") in ("starclip_lib", "starclip_lib.lab.figures") else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (formula, None), (displayed_formula, None))
    app.add_post_transform(GlossaryLinks)
    app.connect("env-before-read-docs", read_glossary)
    app.connect("doctree-read", mark_entries)
    app.connect("autodoc-skip-member", leave_to_its_module)
    app.connect("source-read", describe_pictures)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
