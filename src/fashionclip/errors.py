"""The exceptions that this package raises for its users, as one tree.

    FashionCLIPError
    ├── CatalogError            a table cannot be read at all
    ├── ImageFetchError         an image cannot be fetched
    │   ├── CredentialsError    object storage refuses the credentials, for every image
    │   └── MissingSourceError  the bucket or folder of an image is not there
    ├── ImageError              an image's bytes cannot be decoded
    ├── CheckpointError         a model cannot be found or is not a CLIP checkpoint
    ├── EngineError             a device or precision is not available
    ├── ClusterError            a Ray cluster cannot be used
    ├── MissingExtraError       an optional package is not installed
    ├── BenchmarkError          a benchmark's files are missing or cannot be used
    ├── EvaluationError         a model cannot be measured, or a run cannot be read or compared
    ├── TrainingError           a training run cannot start, continue, or be selected from
    ├── PublishError            a model cannot be published
    ├── ServiceError            the service cannot be started or reached
    │   ├── BusyError           too many requests are waiting
    │   └── RefusedError        the service refused a request
    ├── LabelError              a label set or category tree contradicts itself
    └── StoreError              a store of vectors and products cannot be used
        ├── ModelMismatchError  the store holds another model's vectors
        ├── StoreLockedError    another run is writing to it
        ├── StoreFormatError    an older or newer version of this package wrote it
        ├── StoreFullError      the disk has no room for a write
        ├── StoreCorruptError   what is stored is not what was written
        ├── FilterError         a filter is not valid for the store's columns
        └── ProductNotFoundError  no product has this id

Each message is one line: what is wrong, where, and how to fix it. Mistakes in a program
(a wrong shape, an impossible k) are ``ValueError`` and ``TypeError``.
"""


class FashionCLIPError(Exception):
    """The base class of every error that this package raises for its users."""


class CatalogError(FashionCLIPError):
    """A catalogue table cannot be read at all."""


class ImageFetchError(FashionCLIPError):
    """An image cannot be fetched from its location."""


class CredentialsError(ImageFetchError):
    """Object storage refuses the credentials: no image of it can be fetched until they are new."""


class MissingSourceError(ImageFetchError):
    """The bucket or folder of an image is not there: none of its images can be fetched."""


class ImageError(FashionCLIPError):
    """An image's bytes cannot be decoded."""


class CheckpointError(FashionCLIPError):
    """A model cannot be found, or is not a CLIP checkpoint this package can read."""


class EngineError(FashionCLIPError):
    """A device or a precision is not available on this machine."""


class ClusterError(FashionCLIPError):
    """A Ray cluster cannot be reached, or its workers cannot do the work."""


class MissingExtraError(FashionCLIPError):
    """An optional package is not installed; the message has the command that installs it."""


class BenchmarkError(FashionCLIPError):
    """A benchmark's files are missing or cannot be used; the message says how to get them."""


class EvaluationError(FashionCLIPError):
    """A model cannot be measured, or a run folder cannot be read or compared."""


class TrainingError(FashionCLIPError):
    """A training run cannot start or continue, or has no checkpoint to select from."""


class PublishError(FashionCLIPError):
    """A model cannot be published: its run is incomplete, or the destination refuses it."""


class ServiceError(FashionCLIPError):
    """The HTTP service cannot be started (address, keys or settings) or reached."""


class BusyError(ServiceError):
    """Too many requests are waiting; retry a little later."""


class RefusedError(ServiceError):
    """The service refused a client's request."""

    def __init__(
        self, message: str, *, status: int, code: str, request_id: str, retry_after_s: float
    ) -> None:
        """Keep the parts of the answer.

        Args:
            message: what is wrong, in the service's words.
            status: the HTTP status.
            code: stable, for programs; ``unknown`` if the answer is not the service's own.
            request_id: identifies the request in the log; empty if the answer is not the service's.
            retry_after_s: seconds after which to retry; 0 if a retry does not help.
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
    """An older or newer version of this package wrote the store; the message says what to do."""


class StoreFullError(StoreError):
    """The disk, or its quota, has no room for a write."""


class StoreCorruptError(StoreError):
    """What is stored is not what was written."""


class FilterError(StoreError):
    """A filter is not valid for the columns of the store."""


class ProductNotFoundError(StoreError):
    """The store has no product with this id."""
