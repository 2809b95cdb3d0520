"""A user's strategy is only located when settings are checked: its code runs in workers and nowhere else."""

import sys
from pathlib import Path

import pytest

from activities.strategy.loading import StrategyError, look_at_strategy
from cli.main import run

RUNS = "from pathlib import Path\nPath(__file__).with_name('was-run').touch()\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (f"{RUNS}class Dip:\n    pass\n", ""),
        (f"{RUNS}try:\n    import fast\n    Dip = fast.Dip\nexcept ImportError:\n    Dip = None\n", ""),
        (f"{RUNS}from elsewhere import Other as Dip\n", ""),
        (f"{RUNS}from elsewhere import *\n", ""),
        (f"{RUNS}Dop = 1\n", "strategy.use: its module or file has no such class"),
        (f"{RUNS}class Dip(:\n", "strategy.use: its file can't be read: SyntaxError in line 3"),
        ("\0", "strategy.use: its file can't be read: "),
    ],
)
@pytest.mark.parametrize("as_module", [False, True])
def test_a_strategy_is_looked_at_without_running_it(
    text: str, sentence: str, as_module: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its existence and readability are checked without running its code, or that of its packages."""
    folder = tmp_path / "mypack" / "inner"
    folder.mkdir(parents=True)
    for package in (folder.parent, folder):
        (package / "__init__.py").write_text(RUNS)
    (folder / "mine.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "mypack.inner.mine:Dip" if as_module else f"{folder / 'mine.py'}:Dip"
    if sentence:
        with pytest.raises(StrategyError) as raised:
            look_at_strategy(name)
        assert str(raised.value).startswith(sentence)
    else:
        look_at_strategy(name)
    assert [*tmp_path.rglob("was-run")] == []
    assert "mypack" not in sys.modules


@pytest.mark.parametrize("name", ["nonsense", "no.such.module:Class", "json.tool.deeper:Class", "missing.py:Class"])
def test_a_strategy_that_is_not_there_is_said_without_running_any(name: str) -> None:
    """A name, a module or a file that can't be found is reported."""
    with pytest.raises(StrategyError, match=r"strategy\.use: there is no such (strategy|module|file)"):
        look_at_strategy(name)


def test_config_check_runs_no_code_of_a_strategy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that it only checked the location, with exit code 0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTTRADER_DATA", str(tmp_path / "none"))
    (tmp_path / "mine.py").write_text(f"{RUNS}class Dip:\n    pass\n")
    (tmp_path / "bottrader.toml").write_text("[strategy]\nuse = 'mine.py:Dip'\n")
    assert run(["config", "check"]) == 0
    assert "read but not loaded" in capsys.readouterr().err
    assert not (tmp_path / "was-run").exists()
