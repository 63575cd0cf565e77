"""A published folder to a repository on the Hugging Face hub, and every refusal to one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fashionclip.errors import PublishError


def check_name(name: str) -> None:
    """Refuse what is no repository's name, before anything is computed.

    Raises:
        PublishError: it is none.
    """
    from huggingface_hub import errors
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
        if name.count("/") != 1:
            message = f"'{name}' is no repository's name; pass --name OWNER/MODEL"
            raise PublishError(message)
    except errors.HFValidationError as exc:
        message = f"'{name}' is no repository's name; pass --name OWNER/MODEL"
        raise PublishError(message) from exc


def open_repository(name: str, *, private: bool = False, token: str | None = None) -> None:
    """Create the repository if it is not there: asked first, before minutes of measuring.

    ``HF_ENDPOINT``, ``HF_TOKEN`` and a login by ``hf auth login`` work as they do for the hub's
    own client.

    Args:
        name: ``owner/model``.
        private: whether a new repository is private; one that is there stays as it is.
        token: with the right to write.

    Raises:
        PublishError: no token, no right to write, or no network.
    """
    from huggingface_hub import HfApi

    with _told(name):
        HfApi(token=token).create_repo(name, private=private, exist_ok=True)


def upload(folder: Path, name: str, *, token: str | None = None) -> str:
    """Upload a folder to a repository as one commit.

    Args:
        folder: what ``publish`` has made.
        name: ``owner/model``, of a repository that is there.
        token: with the right to write.

    Returns:
        The commit's address.

    Raises:
        PublishError: no right to write, the card is refused, or no network.
    """
    from huggingface_hub import HfApi

    with _told(name):
        commit = HfApi(token=token).upload_folder(
            repo_id=name, folder_path=folder, commit_message="Publish with fashionclip"
        )
    return str(commit.commit_url)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line.

    Raises:
        PublishError: in place of whatever was raised.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.HfHubHTTPError as exc:
        status = exc.response.status_code if exc.response is not None else 0
        raise PublishError(_sentence(name, _refusal(status, exc))) from exc
    except ValueError as exc:  # the client's own word for a card that the hub refuses
        detail = " ".join(str(exc).split())[:300]
        raise PublishError(_sentence(name, f"the hub refuses the card ({detail})")) from exc
    except Exception as exc:  # the client lets its HTTP library's errors through
        detail = " ".join(str(exc).split())[:200]
        reason = (
            f"the upload failed ({type(exc).__name__}: {detail}); check the network and "
            "HF_ENDPOINT, and run it again"
        )
        raise PublishError(_sentence(name, reason)) from exc


def _refusal(status: int, exc: Exception) -> str:
    if status == 401:
        return "the hub asks for a token that may write: run 'hf auth login', or set HF_TOKEN"
    if status in {403, 404}:
        return "the token may not write there; check the owner's name and the token's rights"
    return f"the hub refuses it ({' '.join(str(exc).split())[:200]})"


def _sentence(name: str, reason: str) -> str:
    return f"the model cannot be uploaded to '{name}': {reason}"
