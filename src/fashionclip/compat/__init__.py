"""Drop-in for the ``fashion-clip`` package: change the import, keep the calls.

``from fashionclip.compat import FashionCLIP, FCLIPDataset``. Calls and results are the
original's, computed by this package's model. ``docs/compat.md`` lists the deliberate differences.
"""

from fashionclip.compat.dataset import FCLIPDataset
from fashionclip.compat.drop_in import FashionCLIP

__all__ = ["FCLIPDataset", "FashionCLIP"]
