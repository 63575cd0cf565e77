"""Download a repository of the Hugging Face hub; every failure becomes one line."""

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
    "trained-on.safetensors",
)
"""The files that are downloaded; a repository may also hold weights for other frameworks."""

TIMEOUT_S = 10.0
"""A hub that does not answer within this time counts as unreachable."""
PROGRESS_DELAY_S = 1.0
"""Downloads that take less show no progress bar."""


def fetch(
    repository: str,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | Path | None = None,
) -> Path:
    """Download a repository's CLIP files into the hub's cache, unless they are there.

    ``HF_ENDPOINT``, ``HF_HOME``, ``HF_TOKEN`` and ``HF_HUB_OFFLINE`` work as in the hub's own
    client. Without a network, the cache is used.

    Raises:
        CheckpointError: no such repository or revision, no access, or no network and no copy.
    """
    from huggingface_hub import errors, snapshot_download

    answers = True
    try:
        answers = _hub_answers(repository, revision, token)
        folder = snapshot_download(
            repository,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            allow_patterns=list(FILES),
            etag_timeout=TIMEOUT_S,
            tqdm_class=_progress_bar(),
            local_files_only=not answers,
        )
    except errors.GatedRepoError as exc:
        reason = "access is granted on its page first; then pass token= or run 'hf auth login'"
        raise CheckpointError(_sentence(repository, reason)) from exc
    except errors.RepositoryNotFoundError as exc:
        reason = (
            "no folder here has this name, and the hub has no such repository, or a private one: "
            "check the name, or pass token="
        )
        raise CheckpointError(_sentence(repository, reason)) from exc
    except errors.RevisionNotFoundError as exc:
        reason = f"it has no revision '{revision}'; check the branch, tag or commit"
        raise CheckpointError(_sentence(repository, reason)) from exc
    except errors.HFValidationError as exc:
        reason = "this is neither a local folder nor a hub name such as 'owner/model'"
        raise CheckpointError(_sentence(repository, reason)) from exc
    except Exception as exc:  # the hub's client does not wrap its HTTP library's errors
        detail = " ".join(str(exc).split())[:200]
        reason = f"the download failed ({type(exc).__name__}: {detail}); run it again to go on"
        if not answers:
            reason = (
                "the hub cannot be reached and the cache holds no whole copy; check the network, "
                "HF_ENDPOINT and HF_HUB_OFFLINE, or pass a local folder"
            )
        raise CheckpointError(_sentence(repository, reason)) from exc
    return Path(folder)


def _hub_answers(repository: str, revision: str | None, token: str | None) -> bool:
    """Whether the hub answers in time; its client sets no limit for this request."""
    from huggingface_hub import HfApi, errors

    try:
        HfApi(token=token).model_info(repository, revision=revision, timeout=TIMEOUT_S)
    except errors.HfHubHTTPError:
        return True  # a refusal is an answer, and gets its message above
    except Exception:  # its HTTP library's errors, which differ between versions
        return False
    return True


def _progress_bar() -> type:
    """The client's progress bar, on terminals only and after a delay."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        def __init__(self, *args: object, **settings: object) -> None:
            quiet = {"disable": None, "delay": PROGRESS_DELAY_S, **settings}
            super().__init__(*args, **quiet)  # type: ignore[no-untyped-call, unused-ignore]

    return Bar


def _sentence(repository: str, reason: str) -> str:
    return f"the model '{repository}' cannot be opened: {reason}"
