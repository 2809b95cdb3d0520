"""The certificates of the local stack's Temporal."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from workers.stack import certificates


def content(folder: Path) -> dict[str, bytes]:
    """The content of every file in the folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_they_are_the_owners_alone_and_stay(tmp_path: Path) -> None:
    """Folder 0700, files 0600, no key of the authority among them; the second start finds the same files."""
    folder = tmp_path / "tls"
    made = certificates.ensure(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert sorted(content(folder)) == ["ca.pem", "client.key", "client.pem", "server.key", "server.pem"]
    assert isinstance(made.client_context(), ssl.SSLContext)
    before = content(folder)
    certificates.ensure(folder)
    assert content(folder) == before


def test_they_are_made_anew_a_year_before_their_end(tmp_path: Path) -> None:
    """Certificates are renewed early enough for a stack to run a year."""
    folder, now = tmp_path / "tls", datetime.now(UTC)
    certificates.ensure(folder, now)
    before = content(folder)
    certificates.ensure(folder, now + timedelta(days=2 * 365 - 1))
    assert content(folder) == before
    certificates.ensure(folder, now + timedelta(days=2 * 365 + 1))
    assert all(content(folder)[name] != before[name] for name in before)


def test_what_was_left_half_made_is_made_anew(tmp_path: Path) -> None:
    """A missing or broken file causes new ones."""
    folder = tmp_path / "tls"
    made = certificates.ensure(folder)
    for spoil in (made.ca_file.unlink, lambda: made.client_cert_file.write_text("nonsense")):
        spoil()
        certificates.ensure(folder)
        made.client_context()


def test_files_that_others_could_read_are_closed(tmp_path: Path) -> None:
    """A copy with wider permissions gets the right ones again."""
    made = certificates.ensure(tmp_path / "tls")
    made.client_key_file.chmod(0o644)
    certificates.ensure(made.folder)
    assert made.client_key_file.stat().st_mode & 0o777 == 0o600
