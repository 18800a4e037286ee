"""What a helper of devices= starts as: it leaves all signals to the process that started it before it loads torch."""

import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.runs.processes import belong_to_parent

if TYPE_CHECKING:
    from sweep.runs.crew import Work


def serve(connection: Connection, file: str, rank: int, work: "Work") -> None:
    """Help as crew.help_with(), in silence."""
    belong_to_parent("SIGTERM", "SIGUSR2")  # a cluster's warning; the first process keeps what is trained, and ends us
    from sweep.runs.crew import help_with  # noqa: PLC0415

    sys.stdout = sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # the first process has said it  # noqa: SIM115
    help_with(connection, file, rank, work)
