"""Drop-in for the ``fashion-clip`` package: change the import, keep the calls.

``from fashionclip.compat import FashionCLIP, FCLIPDataset``. The calls and their meaning are
the original's, the engine is ours: no PyTorch is needed, one bad picture costs only itself,
pictures come as paths, URLs, bytes, Pillow images or arrays. What differs on purpose stands in
``docs/compat.md``.
"""

from fashionclip.compat.dataset import FCLIPDataset
from fashionclip.compat.drop_in import FashionCLIP

__all__ = ["FCLIPDataset", "FashionCLIP"]
