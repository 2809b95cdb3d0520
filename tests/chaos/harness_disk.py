"""A disk that can lose power: unflushed data is lost, as on a machine.

Two file systems, one in a file of the other. The inner one is the machine's; the outer one is its disk with a disk's
cache. At the cut the outer one is shut down without its log (EXT4_IOC_SHUTDOWN), so it keeps of the inner one's file
only data flushed by an fsync or written in the background: data in the inner one's memory is lost, and so is data that
was written and not flushed. The backing file is then copied without a sync and mounted as after a power cut: both file
systems replay their logs.

Needs root and loop devices. It can't show a disk that reports a flush falsely, or torn sectors.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["NotMounted", "PowerCutDisk", "why_no_power_cut"]

_SHUTDOWN = 0x8004587D
_WITHOUT_LOG = 2
_DISK_SIZE, _MACHINE_SIZE = 320, 256
"""MiB: a run of 50 entries takes 80."""
_NEEDED = ("mkfs.ext4", "mount", "umount", "dd", "cp")
_BUSY_SECONDS = 15.0


class NotMounted(Exception):
    """The disk can't be created here; the message says why."""


def why_no_power_cut() -> str | None:
    """Why power cuts can't be tested on this machine, in a few words; None if they can."""
    if os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "needs root"
    missing = [name for name in _NEEDED if shutil.which(name) is None]
    if missing:
        return f"needs {missing[0]}"
    with tempfile.TemporaryDirectory(prefix="bt-cut-") as folder:
        try:
            disk = PowerCutDisk(Path(folder), disk_size=64, machine_size=32)
            disk.open()
            disk.close()
        except NotMounted as problem:
            return f"needs loop devices ({problem})"
    return None


class PowerCutDisk:
    """`machine` is the folder for a machine's files; `cut`, then `restore`, any number of times.

    Sizes are in MiB.
    """

    def __init__(self, folder: Path, *, disk_size: int = _DISK_SIZE, machine_size: int = _MACHINE_SIZE) -> None:
        self.machine = folder / "machine"
        self._disk = folder / "disk"
        self._image = folder / "disk.img"
        self._sizes = disk_size, machine_size
        self._mounted: list[Path] = []

    def open(self) -> None:
        """Create both file systems and mount them. Raises NotMounted."""
        for folder in (self._disk, self.machine):
            folder.mkdir(parents=True, exist_ok=True)
        disk_size, machine_size = self._sizes
        try:
            _fill(self._image, disk_size)
            _make(self._image)
            self._mount(self._image, self._disk)
            _fill(self._inner, machine_size)
            _run("sync", "-f", str(self._disk))
            _make(self._inner)
            self._mount(self._inner, self.machine)
            self.machine.chmod(0o700)
            _run("sync", "-f", str(self.machine))
        except NotMounted:
            self.close()
            raise

    def cut(self) -> None:
        """Cut the power: nothing more reaches the disk."""
        for folder in (self._disk, self.machine):
            _shut(folder)

    def restore(self) -> None:
        """Copy the disk unchanged, and mount the copy at the same place. Raises NotMounted."""
        self.close()
        copy = self._image.with_suffix(".copy")
        _run("cp", "--sparse=never", str(self._image), str(copy))
        copy.replace(self._image)
        self._mount(self._image, self._disk)
        self._mount(self._inner, self.machine)

    def close(self) -> None:
        """Unmount the file systems; the image stays. Raises NotMounted if something uses it for 15 s."""
        while self._mounted:
            deadline = time.monotonic() + _BUSY_SECONDS
            while True:
                try:
                    _run("umount", str(self._mounted[-1]))
                except NotMounted:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.1)  # a killed process still has to close its files
                else:
                    break
            self._mounted.pop()

    @property
    def _inner(self) -> Path:
        return self._disk / "machine.img"

    def _mount(self, image: Path, folder: Path) -> None:
        _run("mount", "-o", "loop", str(image), str(folder))
        self._mounted.append(folder)


def _fill(image: Path, size: int) -> None:
    # Written in full, so that no flush waits for the file system below to find room: a disk has its sectors.
    _run("dd", "if=/dev/zero", f"of={image}", "bs=1M", f"count={size}")


def _make(image: Path) -> None:
    # Nothing is written later in the background, which would be a load beside the run.
    options = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    _run("mkfs.ext4", "-q", "-F", "-E", options, str(image))


def _shut(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(handle, _SHUTDOWN, struct.pack("I", _WITHOUT_LOG))
    finally:
        os.close(handle)


def _run(*argv: str) -> None:
    done: subprocess.CompletedProcess[str] = subprocess.run(_given(argv), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NotMounted(f"{argv[0]}: {done.stderr.strip() or done.returncode}")


def _given(argv: Sequence[str]) -> list[str]:
    return [shutil.which(argv[0]) or argv[0], *argv[1:]]
