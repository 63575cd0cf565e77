"""The forms of vectors that a store can be made with: what it keeps, what proposes candidates.

A form names what an approximate search compares first. Its candidates are ranked again by the
vectors that are kept: 32-bit floats in the form ``float``, 16-bit ones (half) in all others.
"""

from typing import Literal, get_args

import numpy as np
from jaxtyping import Float32

VectorForm = Literal["float", "half", "int8", "binary"]
VECTOR_FORMS: tuple[VectorForm, ...] = get_args(VectorForm)


def as_kept(vectors: Float32[np.ndarray, "*n dim"], form: VectorForm) -> np.ndarray:
    """Vectors as a store of a form gives them back, still in float32.

    Rounding to half moves a unit vector's length by 5e-4 at most, and a cosine by about 1e-5. A
    vector that was kept before does not change.
    """
    if form == "float":
        return np.asarray(vectors, np.float32)
    return vectors.astype(np.float16).astype(np.float32)
