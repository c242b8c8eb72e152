"""Pictures for an examiner: the minutiae of one print, and what two prints were found to share.

A picture explains a comparison, it never takes part in one. It holds what the caller gives and nothing else:
no name, no date, no metadata, and equal arguments make equal bytes.

One palette serves both pictures: *plasma* from dark blue to light orange, whose steps look equally large and
keep their order for colour-blind eyes and on grey paper.
"""

from enroll.image import GrayImage
from matcher.template import PPI, Template
from papilar.picture.drawing import (
    STYLE,
    Overlay,
    Side,
    Style,
    Text,
    fit,
    ground_of,
    kinds,
    legend,
    paper,
    png,
    quality_bar,
    quality_ink,
    scale_bar,
)
from papilar.picture.match import draw_match

__all__ = ["STYLE", "Side", "Style", "draw_match", "draw_minutiae"]


def draw_minutiae(image: GrayImage, template: Template) -> bytes:
    """Draw the minutiae of a print on it.

    Parameters
    ----------
    image : GrayImage
        The print; brought to 500 ppi where it has another resolution.
    template : Template
        Its minutiae. Rings are endings, squares bifurcations, diamonds others; the tick is the direction, the
        colour the quality.

    Returns
    -------
    bytes
        PNG, at most 1048 pixels wide.

    Raises
    ------
    InvalidInput
        The template is of an image of another size.
    """
    style = STYLE
    ground = ground_of(image, template)
    panel = fit([template.size], style.print_width, style.most_height, style)[0]
    width = max(style.least_width, panel.width + 2 * style.margin)
    panel = panel.moved((width - panel.width) // 2, style.margin)
    canvas = paper((width, panel.bottom + style.foot(2)), [(panel, ground)], style)
    overlay, text = Overlay(canvas.size, style), Text(canvas, style)
    for index in reversed(range(len(template))):  # the best come first, and lie on top
        overlay.minutia(panel, template, index, quality_ink(int(template.quality[index]), style))
    count = f"{len(template)} {'minutia' if len(template) == 1 else 'minutiae'} · {PPI} ppi"
    text.write((style.margin, style.foot_line(canvas.height, 2)), count, style.dark)
    scale_bar(overlay, text, panel.scale, (width - style.margin, style.foot_line(canvas.height, 2)))
    legend(overlay, text, kinds(template), (style.margin, style.foot_line(canvas.height, 1)))
    quality_bar(overlay, text, (width - style.margin, style.foot_line(canvas.height, 1)))
    return png(overlay.onto(canvas))
