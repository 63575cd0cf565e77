"""Everything that can go wrong for a user, as one tree.

FashionCLIPError
├── CatalogError            a table cannot be read at all
├── ImageFetchError            a picture cannot be fetched
├── ImageError              a picture's bytes cannot be decoded
├── CheckpointError         a model cannot be found or is not a CLIP checkpoint
├── EngineError             a device or precision is not to be had here
├── MissingExtraError       an optional package is not installed
├── BenchmarkError          a benchmark's files are missing or cannot be used
├── EvaluationError         a model cannot be measured, or a run cannot be read or compared
├── TrainingError           a training run cannot begin, go on, or be chosen from
├── PublishError            a model cannot be published where it was to go
├── ServiceError            the service cannot be started as it was told to, or be reached
│   ├── BusyError           more waits for it than it takes on
│   └── RefusedError        it does not do what a client asks
├── LabelError              a label set or category tree contradicts itself
└── StoreError              a store of vectors and products cannot be used
    ├── ModelMismatchError  the store holds another model's vectors
    ├── StoreLockedError    another run is writing to it
    ├── StoreFormatError    an older or newer version of this package wrote it
    ├── StoreFullError      the disk has no room for what is to be written
    ├── StoreCorruptError   what is on disk is not what was written
    ├── FilterError         a filter is not valid for the store's columns
    └── ProductNotFoundError  no product has this id

Each message is one line: what is wrong, where, and how to mend it. Mistakes in a
program (a wrong shape, an impossible k) stay ``ValueError`` and ``TypeError``.
"""


class FashionCLIPError(Exception):
    """The root of every error that this package raises for its users."""


class CatalogError(FashionCLIPError):
    """A catalogue table cannot be read at all."""


class ImageFetchError(FashionCLIPError):
    """A picture cannot be fetched from where the catalogue says it is."""


class ImageError(FashionCLIPError):
    """A picture's bytes cannot be decoded."""


class CheckpointError(FashionCLIPError):
    """A model cannot be found, or is not a CLIP checkpoint this package can read."""


class EngineError(FashionCLIPError):
    """A device or a precision is not to be had on this machine."""


class MissingExtraError(FashionCLIPError):
    """An optional package is not installed; the message holds the command that installs it."""


class BenchmarkError(FashionCLIPError):
    """A benchmark's files are missing or cannot be used; the message says how to get them."""


class EvaluationError(FashionCLIPError):
    """A model cannot be measured, or a run folder cannot be read or compared."""


class TrainingError(FashionCLIPError):
    """A training run cannot begin or go on, or there is nothing in it to choose from."""


class PublishError(FashionCLIPError):
    """A model cannot be published: a part of its run is missing, or the place refuses it."""


class ServiceError(FashionCLIPError):
    """The HTTP service cannot be started (its address, keys or settings), or not be reached."""


class BusyError(ServiceError):
    """More requests wait than the service takes on; the same one will do a little later."""


class RefusedError(ServiceError):
    """The service has answered a client that it does not do what was asked."""

    def __init__(
        self, message: str, *, status: int, code: str, request_id: str, retry_after_s: float
    ) -> None:
        """Keep what the service said.

        Args:
            message: in its words.
            status: of HTTP.
            code: for programs; never changes. ``unknown`` where something else answered.
            request_id: by which its log knows the request; empty where something else answered.
            retry_after_s: when the same request may do, in seconds; 0 where it will not.
        """
        super().__init__(message)
        self.status, self.code = status, code
        self.request_id, self.retry_after_s = request_id, retry_after_s


class LabelError(FashionCLIPError):
    """A label set or a category tree contradicts itself."""


class StoreError(FashionCLIPError):
    """A store of vectors and products cannot be used."""


class ModelMismatchError(StoreError):
    """The store holds vectors of another model."""


class StoreLockedError(StoreError):
    """Another run is writing to the store."""


class StoreFormatError(StoreError):
    """An older or newer version of this package wrote the store; the message names the mend."""


class StoreFullError(StoreError):
    """There is no room on the disk, or under its quota, for what is to be written."""


class StoreCorruptError(StoreError):
    """What is stored is not what was written."""


class FilterError(StoreError):
    """A filter is not valid for the columns of the store."""


class ProductNotFoundError(StoreError):
    """The store has no product of this id."""
