"""`make lock`: the two lock files, written from the packages installed in .venv.

`requirements.lock` has what trading needs: the dependencies in pyproject.toml, their dependencies, and the build
requirements. `requirements-dev.lock` has everything else: tools of development, clients for tests.
"""

import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, distribution, distributions
from pathlib import Path
from tomllib import loads

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RUN_LOCK = ROOT / "requirements.lock"
DEV_LOCK = ROOT / "requirements-dev.lock"

_NOT_LOCKED = frozenset({"pip", "bottrader"})


def needed(wanted: Iterable[str]) -> set[str]:
    """Names of installed packages that the requirements `wanted` need, with their own requirements, and so on."""
    known: dict[str, frozenset[str]] = {}
    to_do = [Requirement(text) for text in wanted]
    while to_do:
        item = to_do.pop()
        name, extras = canonicalize_name(item.name), frozenset(item.extras) | {""}
        if extras <= known.get(name, frozenset()):
            continue
        known[name] = known.get(name, frozenset()) | extras
        for text in distribution(name).requires or ():
            other = Requirement(text)
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in extras):
                to_do.append(other)
    return set(known)


def lines() -> tuple[list[str], list[str]]:
    """The lines of both files. Raises PackageNotFoundError for a dependency that is not installed."""
    project = loads((ROOT / "pyproject.toml").read_text())
    run = needed([*project["project"]["dependencies"], *project["build-system"]["requires"]])
    installed = {canonicalize_name(found.metadata["Name"]): found for found in distributions()}
    pins = {
        name: f"{found.metadata['Name']}=={found.version}"
        for name, found in sorted(installed.items())
        if name not in _NOT_LOCKED
    }
    return [pin for name, pin in pins.items() if name in run], [pin for name, pin in pins.items() if name not in run]


def main() -> int:
    """Write both."""
    try:
        run, dev = lines()
    except PackageNotFoundError as error:
        sys.stderr.write(f"error: {error.name} is a dependency and not installed in this environment.\n")
        return 2
    RUN_LOCK.write_text("\n".join(run) + "\n")
    DEV_LOCK.write_text("\n".join(dev) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
