"""`python -m workers.health --role orders`: can a worker on this machine (or in this container) do the role's work?

Exit code 0 or 1, and a sentence for each thing that keeps it from it: the database takes a write, the exchange answers,
whoever does the role's work holds its lease, and Temporal itself is asked who polls, so that a worker that hangs or
lost its connection counts as ill. The worker's identity ends in @ and the machine's name, as the SDK makes it.
"""

import argparse
import asyncio
import sys

from workers.errors import UserError
from workers.leave import leave
from workers.ledger_identity import on_ledger
from workers.polling import ROLES
from workers.readiness import ailments
from workers.settings import build, read_sources

__all__ = ["main"]


def main() -> int:
    """Answer by exit code, and with a sentence when the answer is no."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.health", description="Can this machine's worker do the role's work?"
    )
    parser.add_argument("--role", choices=ROLES, required=True)
    role: str = parser.parse_args().role
    try:
        found = asyncio.run(ailments(build(on_ledger(read_sources())), role))
    except UserError as error:
        sys.stderr.write(f"error: {error.sentence}\n")
        return 1
    for sentence in found:
        sys.stderr.write(f"error: {sentence}.\n")
    return 1 if found else 0


if __name__ == "__main__":
    leave(main())
