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
    "trained-on.safetensors",
)
"""All that is fetched: a repository may also hold weights for other frameworks."""


TIMEOUT_S = 10.0
"""How long the hub may take to answer; a silent one is taken for an unreachable one."""
QUIET_S = 1.0
"""Downloads, or looks into the cache, that take less show no progress bar."""


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
    except Exception as exc:  # the hub's client lets its HTTP library's errors through
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
    """Ask the hub once, with the time limit that its client sets for no such question."""
    from huggingface_hub import HfApi, errors

    try:
        HfApi(token=token).model_info(repository, revision=revision, timeout=TIMEOUT_S)
    except errors.HfHubHTTPError:
        return True  # a refusal is an answer, and gets its sentence above
    except Exception:  # its HTTP library's errors, which differ between versions
        return False
    return True


def _progress_bar() -> type:
    """The client's bar, on terminals only and not for a moment's work."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc, type-arg, unused-ignore]
        def __init__(self, *args: object, **settings: object) -> None:
            quiet = {"disable": None, "delay": QUIET_S, **settings}
            super().__init__(*args, **quiet)  # type: ignore[no-untyped-call, unused-ignore]

    return Bar


def _sentence(repository: str, reason: str) -> str:
    return f"the model '{repository}' cannot be opened: {reason}"
