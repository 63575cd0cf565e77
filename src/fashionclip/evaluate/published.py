"""What others published, as data: shown beside what is measured, and always marked as theirs.

Only figures whose source was read itself are here. They were measured on their authors' copy of
the data, with their prompts; a difference to a measured figure is not a difference of models alone.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

CARD = "model card of patrickjohncyh/fashion-clip"
MARQO = "leaderboard of marqo-ai/marqo-FashionCLIP, 9 August 2024"

CARD_COLUMNS: Mapping[str, str] = MappingProxyType(
    {"FMNIST": "fmnist", "KAGL": "kagl/article-type", "DEEP": "deep/category"}
)
"""The card's columns and the tasks that measure them, by weighted F1."""


@dataclass(frozen=True, slots=True)
class Published:
    """One figure that others measured."""

    model: str
    task: str
    """Our name of the task that asks the same."""
    metric: str
    value: float
    source: str


_CARD_ROWS = (
    ("OpenAI CLIP B/32", 0.66, 0.63, 0.45),
    ("FashionCLIP 1.0", 0.74, 0.67, 0.48),
    ("LAION CLIP B/32", 0.78, 0.71, 0.58),
    ("FashionCLIP 2.0", 0.83, 0.73, 0.62),
)
_MARQO_MODELS = (
    *("FashionCLIP 2.0", "Marqo-FashionCLIP", "Marqo-FashionSigLIP"),
    *("OpenFashionCLIP", "LAION CLIP B/16", "SigLIP B/16 webli"),
)
_TEXT_TO_IMAGE = MappingProxyType(  # recall@1/recall@10/mrr@10 of each of the models above
    {
        "atlas": ".055/.214/.140 .074/.236/.172 .109/.313/.244 .048/.178/.116 .068/.222/.160 "
        ".097/.304/.229",
        "inshop": ".039/.175/.259 .048/.239/.331 .050/.248/.330 .030/.140/.221 .039/.185/.267 "
        ".036/.186/.255",
        "multimodal": ".003/.026/.008 .004/.024/.009 .007/.031/.015 .002/.018/.006 .005/.019/.008 "
        ".007/.033/.013",
        "fashion200k": ".057/.221/.103 .066/.280/.125 .111/.378/.187 .047/.184/.086 "
        ".062/.230/.108 .091/.317/.155",
        "kagl": ".122/.404/.217 .159/.446/.265 .179/.489/.293 .091/.325/.170 .155/.435/.259 "
        ".169/.468/.272",
        "polyvore": ".186/.452/.261 .212/.512/.299 .271/.585/.367 .143/.381/.209 .198/.472/.277 "
        ".268/.574/.359",
    }
)
_TO_PRODUCT = (  # precision@1/precision@10/mrr@10
    ("FashionCLIP 2.0", "inshop/category", ".750/.738/.781"),
    ("FashionCLIP 2.0", "inshop/sub-category", ".875/.700/.875"),
    ("FashionCLIP 2.0", "multimodal/category", ".688/.662/.729"),
    ("FashionCLIP 2.0", "fashion200k/category", ".800/.940/.900"),
    ("FashionCLIP 2.0", "fashion200k/sub-category", ".613/.658/.753"),
    ("FashionCLIP 2.0", "atlas/sub-category", ".618/.624/.678"),
    ("FashionCLIP 2.0", "kagl/category", ".714/.686/.714"),
    ("FashionCLIP 2.0", "kagl/sub-category", ".600/.571/.627"),
    ("FashionCLIP 2.0", "polyvore/category", ".454/.405/.581"),
    ("Marqo-FashionSigLIP", "kagl/sub-category", ".711/.687/.756"),
    ("Marqo-FashionSigLIP", "polyvore/category", ".594/.474/.695"),
)


def _numbers(text: str) -> list[float]:
    return [float(number) for number in text.split("/")]


def _rows() -> Iterator[Published]:
    for model, *values in _CARD_ROWS:
        for task, value in zip(CARD_COLUMNS.values(), values, strict=True):
            yield Published(model, task, "weighted_f1", value, CARD)
    for name, cells in _TEXT_TO_IMAGE.items():
        for model, cell in zip(_MARQO_MODELS, cells.split(), strict=True):
            for metric, value in zip(
                ("recall@1", "recall@10", "mrr@10"), _numbers(cell), strict=True
            ):
                yield Published(model, f"marqo-{name}/text-to-image", metric, value, MARQO)
    for model, question, cell in _TO_PRODUCT:
        for metric, value in zip(
            ("precision@1", "precision@10", "mrr@10"), _numbers(cell), strict=True
        ):
            yield Published(model, f"marqo-{question}-to-product", metric, value, MARQO)


PUBLISHED: tuple[Published, ...] = tuple(_rows())
"""Every published figure, models in their source's order."""


def published_on(task: str) -> tuple[Published, ...]:
    """What others published on a task; empty for most."""
    return tuple(row for row in PUBLISHED if row.task == task)
