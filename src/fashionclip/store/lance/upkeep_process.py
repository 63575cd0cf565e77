"""Upkeep of a large table in a process of its own, whose memory ends with it.

Lance's memory grows with the table while it compacts and builds a vector index, and most of it
stays with the process that asked for that. An indexing run or a service would keep it. The caller
holds the store's lock all the while.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import IO, Any

from fashionclip.errors import StoreError
from fashionclip.product import VectorForm
from fashionclip.store.lance import upkeep
from fashionclip.store.lance.place import Place

Dataset = Any  # what Lance's own type lacks annotations for

APART_FROM = 20_000
"""Products from which it is worth the second that a new process takes to start."""
SHUFFLE_BYTES = 16 << 20
"""What Lance sorts by partition in memory before it writes; 128 MB by default."""
MAX_LAST_WORDS = 200
_START = (
    "import json, sys; task = json.loads(sys.stdin.readline()); sys.path = task.pop('path'); "
    "from fashionclip.store.lance.upkeep_process import work; work(**task)"
)


def optimize(table: Dataset, place: Place, form: VectorForm, due: upkeep.Work) -> Dataset:
    """Do to a table what is due, in a process of its own if it is large.

    Args:
        table: the products, at the newest version; its lock is held.
        place: where it is.
        form: that of its vectors.
        due: what ``upkeep.due`` says.

    Returns:
        The table at its newest version.

    Raises:
        StoreError: the other process was killed; the table is whole.
        OSError: Lance failed there; the text is Lance's.
    """
    is_program = bool(sys.executable) and not getattr(sys, "frozen", False)
    if not is_program or table.count_rows() < APART_FROM:
        upkeep.optimize(table, form, due)
        return table
    task = {
        "path": sys.path,
        "uri": place.table_uri,
        "storage_options": place.storage_options,
        "version": int(table.version),
        "form": form,
        "due": due,
    }
    answer = _run(task, place.uri)
    if "error" in answer:
        raise OSError(answer["error"])
    return table.checkout_version(answer["version"])


def _run(task: dict[str, object], uri: str) -> dict[str, Any]:
    """What the other process answers; it ends when its input does, so with this process too.

    The task goes through its input: a command line can be read by other users.

    Raises:
        StoreError: it was killed, or could not be started.
    """
    try:
        with tempfile.TemporaryFile() as said:
            status, answer = _ask(json.dumps(task).encode() + b"\n", said)
            said.seek(0)
            reason = _how_ended(status, said.read())
    except OSError as exc:
        answer, reason = b"", f"could not be started ({exc.strerror or exc})"
    if not answer:
        message = (
            f"the index {uri} was not optimized: the process that does it {reason}; "
            "all products are kept: run this again"
        )
        raise StoreError(message)
    found: dict[str, Any] = json.loads(answer)
    return found


def _ask(line: bytes, said: IO[bytes]) -> tuple[int, bytes]:
    """Start the other process; its exit status, and its answer, which is empty if it died.

    Raises:
        OSError: it cannot be started.
    """
    command = [sys.executable, "-P", "-c", _START]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        answer = b""
        try:
            with suppress(BrokenPipeError):  # it died at once
                process.stdin.write(line)
                process.stdin.flush()
                answer = process.stdout.readline()
        except BaseException:  # such as Ctrl-C
            process.kill()
            raise
        if not answer:
            process.wait()
    return process.returncode, answer


def _how_ended(status: int, said: bytes) -> str:
    if status == -9:  # Windows has no name for it
        return "was killed, as the system does where memory is short"
    last = said.decode(errors="replace").strip().rpartition("\n")[2][:MAX_LAST_WORDS]
    how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"{how} ({last})" if last else how


def work(
    *,
    uri: str,
    storage_options: dict[str, str],
    version: int,
    form: VectorForm,
    due: upkeep.Work,
) -> None:
    """What the other process does; its last line is its answer in JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits for this one ends it
    threading.Thread(target=_end_with_input, daemon=True).start()
    os.environ.setdefault("LANCE_SHUFFLE_BATCH_BYTES", str(SHUFFLE_BYTES))  # noqa: TID251

    from fashionclip.store.lance.table import read_table  # loads Lance, which reads the variable

    try:
        table = read_table(uri, storage_options, version=version)
        upkeep.optimize(table, form, due)
        answer: dict[str, object] = {"version": int(table.version)}
    except BaseException as exc:  # Lance's panics too; the other process says what it means
        answer = {"error": str(exc)}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(1)
