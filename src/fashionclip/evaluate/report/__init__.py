"""The report of a run: Markdown, and one self-contained HTML page."""

from collections.abc import Mapping
from pathlib import Path

from fashionclip.atomic import write_whole
from fashionclip.errors import EvaluationError
from fashionclip.evaluate.report.html import html
from fashionclip.evaluate.report.markdown import markdown
from fashionclip.evaluate.results import Run


def write_report(run: Run, folder: str | Path, thumbnails: Mapping[str, str]) -> None:
    """Write ``report.md`` and ``report.html`` into a run folder.

    Args:
        run: what was measured.
        folder: made if it is missing.
        thumbnails: data URIs by ``<task>/<image_id>``; one that is missing is shown by its id.

    Raises:
        EvaluationError: the folder cannot be written.
    """
    folder = Path(folder)
    pages = {"report.md": markdown(run), "report.html": html(run, thumbnails)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in pages.items():
            write_whole(folder / name, text.encode("utf-8", "replace"))
    except OSError as exc:
        message = f"the report cannot be written to {folder} ({exc.strerror}): choose another"
        raise EvaluationError(message) from exc
