"""A repository on the Hugging Face hub to a local folder, and every failure to one line."""

from pathlib import Path

from fashionclip.errors import CheckpointError

FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "model-*-of-*.safetensors",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "README.md",
)
"""All that is fetched: a repository may also hold weights for other frameworks."""


def fetch(
    repository: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """Fetch a repository's CLIP files into the hub's cache; the second time costs no download.

    ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` work as they do for the hub's
    own client. Without a network, what the cache holds is used.

    Raises:
        CheckpointError: no such repository or revision, no access, or no network and no copy.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        folder = snapshot_download(
            repository,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            allow_patterns=list(FILES),
            etag_timeout=10,
        )
    except errors.GatedRepoError as exc:
        reason = "access is granted on its page first; then pass token= or run 'hf auth login'"
        raise CheckpointError(_sentence(repository, reason)) from exc
    except errors.RepositoryNotFoundError as exc:
        reason = "there is no such repository, or it is private: check the name, or pass token="
        raise CheckpointError(_sentence(repository, reason)) from exc
    except errors.RevisionNotFoundError as exc:
        reason = f"it has no revision '{revision}'; check the branch, tag or commit"
        raise CheckpointError(_sentence(repository, reason)) from exc
    except errors.HFValidationError as exc:
        reason = "this is neither a local folder nor a hub name such as 'owner/model'"
        raise CheckpointError(_sentence(repository, reason)) from exc
    except Exception as exc:  # the hub's client lets its HTTP library's errors through
        kind = type(exc).__name__
        reason = (
            f"the hub cannot be reached and the cache holds no copy ({kind}); check the network "
            "or HF_ENDPOINT, or pass a local folder"
        )
        raise CheckpointError(_sentence(repository, reason)) from exc
    return Path(folder)


def _sentence(repository: str, reason: str) -> str:
    return f"the model '{repository}' cannot be opened: {reason}"
