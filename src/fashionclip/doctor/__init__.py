"""The catalogue doctor: what is wrong with pictures, captions and labels of a catalogue.

``reading``     a catalogue into arrays: each picture decoded once, encoded, measured
``measures``    what is measured of pixels
``drawn``       faults drawn into the shop's own pictures
``pictures``    faults of pictures, learned from those
``labels``      captions and labels that do not fit the picture
``neighbours``, ``duplicates``   outliers; repeated pictures and products, colourways
``certainty``   scores into confidences, by one rule for all
``findings``    findings, their keys, and those that are marked as fine
``examine``     all of it as one report
"""

from fashionclip.doctor.examine import LEAST, Report, examine_catalog
from fashionclip.doctor.findings import KINDS, TITLES, Finding, Kind, read_fine

__all__ = ["KINDS", "LEAST", "TITLES", "Finding", "Kind", "Report", "examine_catalog", "read_fine"]
