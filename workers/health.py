"""`python -m workers.health --role orders`: can a worker on this machine (or in this container) do the role's work?

Exit code 0 or 1, and a sentence for each problem. Checked are: the database accepts a write, the exchange answers, the
role's lease is held, and Temporal has seen a poll, so that a worker that hangs or lost its connection counts as
unhealthy. The worker's identity ends in @ and the machine's name, as set by the SDK.
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
    """Exit with code 0 or 1, and print a sentence for each problem."""
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
