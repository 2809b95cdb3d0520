"""Who may read and write our files, those with secrets, and the settings file (SAFE-4)."""

import contextlib
import fcntl
import os
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.main import run
from tests.support.modes import open_to_others
from workers.errors import UserError
from workers.private_files import folder_problem, secret_file_problem, settings_file_problem, tighten
from workers.settings import Settings, load_settings
from workers.settings.keys import constraints, leaves
from workers.settings.problems import ConfigError
from workers.settings.secret_files import file_problems
from workers.settings.sources import read_file
from workers.settings.types import FileUse
from workers.stack.local_stack import LocalStack, LocalStackConfig
from workers.stack.processes import python_environment, python_module
from workers.stack.stack_file import STACK_FILE, STACK_LOCK, running_stack

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
KEY = '{"name": "organizations/x/apiKeys/y", "privateKey": "-----BEGIN"}'
SECRET_FILES = {
    "exchange.key_file",
    "database.password_file",
    "temporal.tls_client_key_file",
    "webhook.senders.mine.secret_file",
    "webhook.senders.mine.token_file",
    "api.users.mine.password_digest_file",
    "api.programs.robot.token_file",
    "telegram.token_file",
}
SENDER = {
    "webhook": {"senders": {"mine": {"secret_file": "s", "token_file": "t"}}},
    "api": {
        "users": {"mine": {"password_digest_file": "d"}},
        "programs": {"robot": {"token_file": "t"}},
    },
}


@pytest.fixture
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Path], Settings]:
    """The settings in a file in which a key names this file; the file is the one in force."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTTRADER_DATA", str(tmp_path / "none"))

    def settings(key: str, file: Path) -> Settings:
        section, _, name = key.rpartition(".")
        written = tmp_path / "bottrader.toml"
        beside = {"temporal": f"tls_client_cert_file = '{written}'\n", "exchange": "rest = '127.0.0.1:1'\n"}
        written.write_text(f"[{section}]\n{name} = '{file}'\n{beside.get(section, '')}")
        return load_settings(environ={})

    return settings


def test_every_file_that_a_setting_names_is_known_by_what_it_is() -> None:
    """A setting for a file states whether it holds a secret, so none is forgotten in checks of files."""
    marked = {
        leaf.key: [noted for noted in constraints(leaf.field) if isinstance(noted, FileUse)]
        for leaf in leaves(Settings(**SENDER))  # type: ignore[arg-type]  # as a file gives it
        if leaf.key.endswith("_file")
    }
    assert {key for key, uses in marked.items() if uses == [FileUse.SECRET]} == SECRET_FILES
    assert [key for key, uses in marked.items() if not uses] == []


@pytest.mark.parametrize("key", sorted(SECRET_FILES))
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o601])
def test_a_secret_that_others_can_read_is_refused(
    key: str, mode: int, given: Callable[[str, Path], Settings], tmp_path: Path
) -> None:
    """In every setting, with what to do about it; with mode 600 it is accepted."""
    file = tmp_path / "secret"
    file.write_text(KEY)
    file.chmod(mode)
    (problem,) = file_problems(given(key, file))
    assert problem == f"{key}: the file can be read by other users of this machine: run chmod 600 on it."
    file.chmod(0o600)
    assert file_problems(given(key, file)) == []


@pytest.mark.parametrize(
    "command", [("up",), ("worker",), ("web",), ("config", "check"), ("config", "check", "--json"), ("doctor",)]
)
def test_every_process_refuses_it_alike(
    command: tuple[str, ...],
    given: Callable[[str, Path], Settings],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The same sentence before anything is started, exit code 2; the doctor reports it among other checks."""
    file = tmp_path / "secret"
    file.write_text(KEY)
    file.chmod(0o644)
    given("exchange.key_file", file)
    code = run([*command])
    said = "".join(capsys.readouterr())
    assert code == (1 if command == ("doctor",) else 2)
    assert "exchange.key_file: the file can be read by other users of this machine: run chmod 600 on it." in said
    assert not (tmp_path / "none").exists()


def test_what_containers_mount_is_taken_where_a_setting_names_the_folder(tmp_path: Path) -> None:
    """In that folder a secret may be readable by all; beside it, and below a folder of a similar name, it may not."""
    for folder in ("secrets", "secrets-too"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "token").write_text("x")
    settings = load_settings(environ={"BOTTRADER_SECRETS__READABLE_MOUNTS": f"{tmp_path / 'secrets'},/run/secrets"})
    mounts = settings.secrets.readable_mounts
    assert secret_file_problem(tmp_path / "secrets" / "token", mounts) is None
    assert "chmod 600" in str(secret_file_problem(tmp_path / "secrets-too" / "token", mounts))
    (tmp_path / "secrets" / "away").symlink_to(tmp_path / "secrets-too" / "token")
    assert "chmod 600" in str(secret_file_problem(tmp_path / "secrets" / "away", mounts))
    with pytest.raises(ConfigError, match="a folder must be an absolute path"):
        load_settings(environ={"BOTTRADER_SECRETS__READABLE_MOUNTS": "secrets"})


def test_a_secret_that_is_not_there_is_said(tmp_path: Path) -> None:
    """A missing file and a folder in its place are reported, too."""
    assert secret_file_problem(tmp_path / "none") == "there is no such file"
    assert secret_file_problem(tmp_path) == "can't be read (Is a directory)"


@AS_ROOT
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    """The owner of a secret or a settings file can change it; only root and this user are trusted."""
    file = tmp_path / "bottrader.toml"
    file.write_text("")
    file.chmod(0o600)
    assert secret_file_problem(file) is settings_file_problem(file) is None
    os.chown(file, 12345, 12345)
    assert "belongs to another user" in str(secret_file_problem(file))
    assert "belongs to another user" in str(settings_file_problem(file))


@AS_ROOT
def test_another_users_link_to_a_file_of_ours_is_refused(tmp_path: Path) -> None:
    """The link's owner could choose which of our files is used, and redirect the name while it is read."""
    ours, link = tmp_path / "ours.toml", tmp_path / "bottrader.toml"
    ours.write_text("")
    ours.chmod(0o600)
    link.symlink_to(ours)
    assert settings_file_problem(link) is None
    os.chown(link, 12345, 12345, follow_symlinks=False)
    with pytest.raises(ConfigError, match="belongs to another user"):
        read_file(link)


@AS_ROOT
def test_a_settings_file_is_judged_by_what_is_read(tmp_path: Path) -> None:
    """A name that points to another user's file only for a moment doesn't get that file used."""
    theirs, ours, name = (tmp_path / part for part in ("theirs.toml", "ours.toml", "bottrader.toml"))
    for file in (theirs, ours):
        file.write_text(f"[exits]\nhard_stop_pct = {1 if file is ours else 2}\n")
        file.chmod(0o600)
    os.chown(theirs, 12345, 12345)
    name.symlink_to(ours)
    done = threading.Event()

    def flip() -> None:
        fresh = tmp_path / "fresh"
        while not done.is_set():
            for target in (theirs, ours):
                fresh.symlink_to(target)
                fresh.replace(name)

    flipping = threading.Thread(target=flip)
    flipping.start()
    read = set()
    try:
        for _ in range(2000):
            with contextlib.suppress(ConfigError):
                read.add(str(read_file(name)["exits"]["hard_stop_pct"]))
    finally:
        done.set()
        flipping.join()
    assert read <= {"1"}


@AS_ROOT
async def test_a_data_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    """Its owner could later put any ledger, certificate or token into it; nothing is created in it."""
    folder = tmp_path / "data"
    folder.mkdir()
    os.chown(folder, 12345, 12345)
    with pytest.raises(UserError, match="belongs to another user") as refused:
        await LocalStack(LocalStackConfig(data=folder)).start()
    assert refused.value.code == "BAD_DATA_FOLDER"
    assert not any(folder.iterdir())


@AS_ROOT
@pytest.mark.parametrize("theirs", ["data", "data/stack.json"])
def test_a_stack_that_another_user_says_runs_is_not_believed(theirs: str, tmp_path: Path) -> None:
    """Commands would use that user's database and Temporal, and report everything as halted and sold."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / STACK_FILE).write_text('{"mode": "paper"}')
    with (folder / STACK_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert running_stack(folder) == {"mode": "paper"}
        os.chown(tmp_path / theirs, 12345, 12345)
        with pytest.raises(UserError, match="is not trusted"):
            running_stack(folder)


def test_a_data_folder_that_everybody_writes_to_is_refused(tmp_path: Path) -> None:
    """Unless users can only remove their own files, as in /tmp."""
    tmp_path.chmod(0o777)
    assert "chmod o-w" in str(folder_problem(tmp_path))
    tmp_path.chmod(0o1777)
    assert folder_problem(tmp_path) is folder_problem(tmp_path / "none") is None


@AS_ROOT
def test_another_users_pipe_is_not_waited_for(tmp_path: Path) -> None:
    """A named pipe in place of the settings file is refused before it is opened, which would block forever."""
    pipe = tmp_path / "bottrader.toml"
    os.mkfifo(pipe, 0o600)
    os.chown(pipe, 12345, 12345)
    with pytest.raises(ConfigError, match="belongs to another user"):
        read_file(pipe)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o664])
def test_a_settings_file_that_others_can_write_is_refused(
    mode: int, given: Callable[[str, Path], Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names a strategy, so its writer runs code: on paper and in live, one sentence, exit code 2."""
    given("exchange.ca_file", tmp_path / "bottrader.toml")
    file = tmp_path / "bottrader.toml"
    for text in ("", "mode = 'live'\n[exchange]\nkey_file = '/none'\n"):
        file.write_text(text)
        file.chmod(mode)
        assert run(["config", "check"]) == 2
        expected = "error: bottrader.toml: other users can write to it and so run any code: run chmod go-w on it.\n"
        assert capsys.readouterr().err == expected
    file.write_text("")
    file.chmod(0o644)
    assert run(["config", "check"]) == 0


def test_a_settings_file_in_a_folder_where_everybody_writes_is_refused(tmp_path: Path) -> None:
    """Anybody could replace it, unless the folder is sticky, as /tmp is."""
    file = tmp_path / "open" / "bottrader.toml"
    file.parent.mkdir()
    file.write_text("")
    file.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="everyone can replace it"):
        load_settings(file, {})
    file.parent.chmod(0o1777)
    load_settings(file, {})


def test_only_what_is_ours_is_tightened(tmp_path: Path) -> None:
    """Only files and folders of the given names, and below; nothing else, and no targets of links."""
    for name in ("logs/old/a.log", "temporal.db-wal", "mine/notes", "outside"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o644)
    (tmp_path / "logs" / "link").symlink_to(tmp_path / "outside")
    for folder in ("logs", "logs/old", "mine"):
        (tmp_path / folder).chmod(0o755)
    tighten(tmp_path, ["logs", "temporal*", "none"])
    assert open_to_others(tmp_path) == {"mine", "mine/notes", "outside"}


def test_what_a_command_writes_is_its_owners_alone(tmp_path: Path) -> None:
    """For any umask: only the owner can read a written settings file, also if it replaces an open one."""
    for again in ((), ("--force",)):
        done = subprocess.run(
            ["sh", "-c", 'umask 0; exec "$@"', "sh", *python_module("cli.main", "config", "init", *again)],
            cwd=tmp_path,
            env=python_environment({"BOTTRADER_DATA": str(tmp_path / "none")}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert open_to_others(tmp_path) == set()
        (tmp_path / "bottrader.toml").chmod(0o666)
