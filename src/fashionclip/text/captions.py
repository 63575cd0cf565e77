"""Captions of products and prompts of labels.

``Catalog.open(..., caption=...)`` accepts any function like ``build_caption`` instead of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from fashionclip.lines import one_line

CaptionRecipe = Callable[[Sequence[str], str], str]
"""Highlights and short description in, caption out."""

_ENSEMBLE = (
    "a photo of a {}",
    "a product photo of a {}",
    "{} on a white background",
    "a picture of the {} from a fashion catalog",
    "{}",
)
PROMPT_TEMPLATES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bare": ("{}",),
        "product": ("a photo of a {}",),
        "ensemble": _ENSEMBLE,
        # OpenAI's prompts end in a full stop, most labels do not; models encode them differently
        "sentences": (*_ENSEMBLE, *(f"{template}." for template in _ENSEMBLE)),
    }
)
"""Prompt templates by name; ``{}`` stands for the label."""


def build_caption(highlights: Sequence[str], short_description: str) -> str:
    """Join a product's short description and highlights, as in FashionCLIP's training data.

    The original's order and separator are not published. Here the short description comes first,
    because truncation cuts the end; each distinct highlight follows after a comma.

    Args:
        highlights: attribute phrases such as ``"stripes"`` or ``"long sleeves"``.
        short_description: such as ``"80s styled t-shirt"``; may be empty.

    Returns:
        One line of text, empty if there are no words.

    Source: model card of FashionCLIP, "Training Data": text is the concatenation of the
        highlights and the short description.
    """
    parts = [one_line(short_description), *(one_line(highlight) for highlight in highlights)]
    distinct: dict[str, str] = {}
    for part in filter(None, parts):
        distinct.setdefault(part.casefold(), part)
    return ", ".join(distinct.values())


def read_templates(templates: str | Iterable[str] | None) -> tuple[str, ...]:
    """Resolve prompt templates: a name of ``PROMPT_TEMPLATES``, one template, or several.

    Raises:
        ValueError: no templates, an unknown name, or a template without ``{}``.
    """
    if templates is None:
        return PROMPT_TEMPLATES["bare"]
    if isinstance(templates, str):
        if templates in PROMPT_TEMPLATES:
            return PROMPT_TEMPLATES[templates]
        templates = (templates,)
    found = tuple(templates)
    if not found:
        message = "no prompt templates given; pass at least one, such as 'a photo of a {}'"
        raise ValueError(message)
    for template in found:
        if "{}" not in template:
            names = ", ".join(PROMPT_TEMPLATES)
            message = (
                f"prompt template {template!r} has no {{}} for the label (named sets: {names})"
            )
            raise ValueError(message)
    return found


def prompts(label: str, templates: str | Iterable[str] | None = None) -> list[str]:
    """The prompts of a label such as ``"ankle boots"``: one per template, in their order.

    Raises:
        ValueError: as ``read_templates``.
    """
    return [template.replace("{}", label) for template in read_templates(templates)]
