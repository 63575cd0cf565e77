"""Tags for products, from labels that nobody trained for.

``read_labels`` or ``LabelSet.of`` says what to choose from; ``tag_catalog`` (pictures) and
``tag_index`` (vectors that are stored already) give a stream of tagged products, which
``write_tags`` writes as a table. ``calibrate`` teaches a label set, from a few labelled
products, how sure to be before it gives a label.
"""

from fashionclip.tagging.calibration import calibrate
from fashionclip.tagging.files import read_label_files, read_labels, save_labels
from fashionclip.tagging.labels import NONE_OF_THESE, Calibration, Label, LabelSet
from fashionclip.tagging.products import (
    TaggedProduct,
    calibrate_on_catalog,
    tag_catalog,
    tag_index,
)
from fashionclip.tagging.scoring import Tag, Tagger
from fashionclip.tagging.tables import TABLE_SUFFIXES, TagReport, write_tags

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
