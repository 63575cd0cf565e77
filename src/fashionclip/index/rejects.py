"""The rejects file of an index folder: what a run could not use, a JSON line each.

It grows as ``rejects.jsonl.part`` while a run works, so that a run that is killed leaves what
it knows, and takes its name when the run is through.
"""

import json
from pathlib import Path
from types import TracebackType

from fashionclip.errors import StoreError
from fashionclip.index.folder import REJECTS_NAME
from fashionclip.product import Reject


class RejectsFile:
    """Collects rejects; used in a ``with`` block, at whose good end the file is in place."""

    def __init__(self, folder: Path) -> None:
        """Begin an empty file in an index folder.

        Raises:
            StoreError: it cannot be written.
        """
        self.path = folder / REJECTS_NAME
        self.count = 0
        self._part = folder / f"{REJECTS_NAME}.part"
        try:
            self._file = self._part.open("w", encoding="utf-8", buffering=1)  # visible by the line
        except OSError as exc:
            raise self._error(exc) from exc

    def __enter__(self) -> "RejectsFile":
        """Hand out itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put the file in its place, unless the run failed: then the last good one stays."""
        try:
            self._file.close()
            if kind is None:
                self._part.replace(self.path)
        except OSError as error:
            if kind is None:
                raise self._error(error) from error

    def add(self, reject: Reject) -> None:
        """Write one reject down.

        Raises:
            StoreError: the disk is full.
        """
        line = {
            "row": reject.row,
            "id": reject.product_id,
            "image": reject.image,
            "reason": reject.reason,
        }
        text = json.dumps(line, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")
        try:
            self._file.write(text + "\n")
        except OSError as exc:
            raise self._error(exc) from exc
        self.count += 1

    def _error(self, exc: OSError) -> StoreError:
        return StoreError(f"{self._part} cannot be written: {exc.strerror or exc}")
