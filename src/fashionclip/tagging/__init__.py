"""Zero-shot tags: your own labels for products, without training.

``read_labels`` or ``LabelSet.of`` makes label sets. ``tag_catalog`` (images) and ``tag_index``
(stored vectors) give a stream of tagged products, which ``write_tags`` writes as a table.
``calibrate`` fits a label set's probabilities and threshold to a few labelled products.
"""

from fashionclip.tagging.calibration import calibrate
from fashionclip.tagging.labels import (
    NONE_OF_THESE,
    Calibration,
    Label,
    LabelSet,
    read_label_files,
    read_labels,
    save_labels,
)
from fashionclip.tagging.products import (
    TABLE_SUFFIXES,
    TaggedProduct,
    TagReport,
    calibrate_on_catalog,
    tag_catalog,
    tag_index,
    write_tags,
)
from fashionclip.tagging.scoring import Tag, Tagger

__all__ = [
    "NONE_OF_THESE",
    "TABLE_SUFFIXES",
    "Calibration",
    "Label",
    "LabelSet",
    "Tag",
    "TagReport",
    "TaggedProduct",
    "Tagger",
    "calibrate",
    "calibrate_on_catalog",
    "read_label_files",
    "read_labels",
    "save_labels",
    "tag_catalog",
    "tag_index",
    "write_tags",
]
