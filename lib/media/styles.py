"""The styles of pictures: a name, and the words that ask a model that paints for it.

The names are those of the embedded engine, which draws each by rule (local/drawing.py): the same request looks alike
with a key and without.
"""

from __future__ import annotations

STYLES: dict[str, str] = {
    "horizon": "wide horizon at golden hour, layered flat hills, a low sun, calm poster",
    "papercut": "layered cut paper, soft shadows between the sheets, tactile craft",
    "bauhaus": "geometric circles, squares and quarter arcs on a strict grid, primary accents",
    "aurora": "soft luminous gradients like northern lights, fine grain, no hard edges",
    "halftone": "two-ink halftone print, visible dots, bold silhouette, screen-printed poster",
    "contour": "topographic contour lines, thin even strokes, quiet palette",
    "skyline": "flat city skyline at dusk, lit windows, clean vector shapes",
    "facets": "low-poly triangular facets, faceted light, crisp edges",
    "botanical": "botanical plate, stems and leaves in flat gouache, cream paper",
    "orbit": "concentric orbits and small planets, fine lines on a deep sky",
    "ribbon": "flowing satin ribbons of colour, sweeping curves, smooth shading",
    "waves": "stylised rolling waves in the manner of a woodblock print",
    "stilllife": "still life of simple vessels on a table, muted light, painterly",
}


def styled(prompt: str, style: str | None) -> str:
    """The prompt with the words of a style: one of STYLES by name, or words of one's own."""
    if style is None:
        return prompt
    words = f"{style}, {STYLES[style]}" if style in STYLES else style
    return f"{prompt.rstrip()}\nStyle: {words}."
