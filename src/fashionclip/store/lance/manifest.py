"""The manifest of a Lance store, ``index.json``: which model made it, and in which format.

It is written last when a store is made, so that its presence means that the rest is there.
"""

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fashionclip.errors import StoreCorruptError, StoreFormatError
from fashionclip.product import VECTOR_FORMS, VectorForm
from fashionclip.store.base import StoreMeta

if TYPE_CHECKING:
    from fashionclip.store.lance.place import Place

FORMAT = 4  # raised when an older version of this package could not read what a newer one wrote
FLOAT_FORMAT = 3  # the same without a form of vectors: 32-bit floats, also for older versions
MANIFEST_NAME = "index.json"
TABLE_NAME = "products.lance"
IMAGES_NAME = "images"
LOCK_NAME = "lock"
OWN_NAMES = (MANIFEST_NAME, LOCK_NAME, "rejects.jsonl", TABLE_NAME)
"""What may be there before the manifest is."""

Identity = tuple[object, ...] | None
"""What tells a manifest from another one that came into its place; None where there is none."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """Which model a store belongs to, and in which format it is written."""

    format: int
    """Version of the layout."""
    model: str
    fingerprint: str
    dim: int
    created: str
    """UTC time (ISO 8601) at which the store was made."""
    vectors: VectorForm = "float"

    @classmethod
    def new(cls, meta: StoreMeta) -> "Manifest":
        """The manifest of a store that is made now."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        version = FLOAT_FORMAT if meta.vectors == "float" else FORMAT
        return cls(version, meta.model, meta.fingerprint, meta.dim, now, meta.vectors)

    @classmethod
    def read(cls, place: "Place") -> "Manifest":
        """Read the manifest of a store.

        Raises:
            StoreError: there is none, or it cannot be read.
            StoreFormatError: a newer version of this package wrote it.
            StoreCorruptError: it is damaged.
        """
        try:
            fields = json.loads(place.read())
            version = int(fields["format"])
        except (ValueError, TypeError, KeyError) as exc:
            raise StoreCorruptError(_damaged(place.uri, "is not readable")) from exc
        if version > FORMAT:
            message = (
                f"the index {place.uri} has format {version} and this fashionclip reads up to "
                f"{FORMAT}: upgrade fashionclip"
            )
            raise StoreFormatError(message)
        try:
            created = str(fields["created"])
            datetime.fromisoformat(created)
            forms = {form: form for form in VECTOR_FORMS}
            return cls(
                format=version,
                model=str(fields["model"]),
                fingerprint=str(fields["fingerprint"]),
                dim=int(fields["dim"]),
                created=created,
                vectors=forms[fields.get("vectors", "float")],
            )
        except (ValueError, TypeError, KeyError) as exc:
            raise StoreCorruptError(_damaged(place.uri, f"lacks a good {exc}")) from exc

    def require_format(self, uri: str) -> None:
        """Refuse an older format.

        Raises:
            StoreFormatError: it is one.
        """
        if self.format < FLOAT_FORMAT:
            message = (
                f"the index {uri} has the format of an older fashionclip: run 'fashionclip index "
                f"CATALOG --into {uri}' once to upgrade it; its vectors are kept"
            )
            raise StoreFormatError(message)

    def create(self, place: "Place") -> None:
        """Write the manifest of a new store.

        Raises:
            StoreError: there is one already, or it cannot be written.
        """
        place.create(self._encoded())

    def write(self, place: "Place") -> None:
        """Write the manifest whole or not at all."""
        place.write(self._encoded())

    def _encoded(self) -> bytes:
        return (json.dumps(asdict(self), indent=1) + "\n").encode()

    def upgraded(self) -> "Manifest":
        """The same, of the newest format of 32-bit floats."""
        return replace(self, format=FLOAT_FORMAT)

    def meta(self, uri: str) -> StoreMeta:
        """The manifest as part of a store's metadata, without roles and columns."""
        return StoreMeta(
            *(uri, self.model, self.fingerprint, self.dim),
            created=self.created,
            vectors=self.vectors,
        )

    @property
    def created_ms(self) -> int:
        """The time of creation in milliseconds."""
        return round(datetime.fromisoformat(self.created).timestamp() * 1000)


def _damaged(uri: str, how: str) -> str:
    return (
        f"{uri}/{MANIFEST_NAME} {how}: restore it from a copy, or delete the index and index the "
        "catalogue again"
    )
