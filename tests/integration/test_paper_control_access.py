"""Access to the paper exchange's control interface: only with its token, and not for a page in a browser."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from exchange.paper import ControlError, PaperConfig, PaperControl, PaperExchange

DEPOSIT = '{"currency": "USD", "amount": "1"}'


async def _usd(control: PaperControl) -> str:
    return str((await control.balances())["USD"]["total"])


async def test_only_the_tokens_holder_moves_anything() -> None:
    """Without the token, under another name, from a page, or as a form's text a request is refused without effect."""
    async with PaperExchange(PaperConfig(step=True)) as paper, PaperControl(paper.addresses()) as control:
        before = await _usd(control)
        token = paper.control_token_file.read_text().strip()
        good = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        port = paper.control_url.rpartition(":")[2]
        refused: list[tuple[dict[str, str], int, str]] = [
            ({"Content-Type": "application/json"}, 401, "UNAUTHORIZED"),
            (good | {"Authorization": f"Bearer {token[:-1]}"}, 401, "UNAUTHORIZED"),
            (good | {"Authorization": f"Basic {token}"}, 401, "UNAUTHORIZED"),
            (good | {"Host": f"rebound.example:{port}"}, 403, "WRONG_HOST"),
            (good | {"Host": f"127.0.0.1.example:{port}"}, 403, "WRONG_HOST"),
            (good | {"Host": f"localhost@evil.example:{port}"}, 403, "WRONG_HOST"),
            (good | {"Origin": "https://evil.example"}, 403, "WRONG_ORIGIN"),
            (good | {"Origin": "null"}, 403, "WRONG_ORIGIN"),
            (good | {"Origin": f"http://127.0.0.1:{port}"}, 403, "WRONG_ORIGIN"),
            (good | {"Content-Type": "text/plain"}, 415, "NOT_JSON"),
            (good | {"Content-Type": "application/x-www-form-urlencoded"}, 415, "NOT_JSON"),
        ]
        async with aiohttp.ClientSession() as http:
            for headers, status, code in refused:
                async with http.post(f"{paper.control_url}/deposit", data=DEPOSIT, headers=headers) as answer:
                    assert (answer.status, (await answer.json())["error"]) == (status, code), headers
            for method, path in (("GET", "/state"), ("GET", "/balances"), ("DELETE", "/faults"), ("OPTIONS", "/order")):
                async with http.request(method, f"{paper.control_url}{path}") as answer:
                    assert answer.status == 401, (method, path)
            assert await _usd(control) == before
            for name in ("localhost", "127.0.0.1", "[::1]"):
                headers = good | {"Host": f"{name}:{port}"}
                async with http.post(f"{paper.control_url}/deposit", data=DEPOSIT, headers=headers) as answer:
                    assert answer.status == 200
        assert await _usd(control) == str(int(before) + 3)


async def test_the_token_is_for_its_owner_alone_and_stays(tmp_path: Path) -> None:
    """The file is 0600 and kept over restarts; one that others could have read, or that is a link, is replaced."""
    tokens = []
    file = tmp_path / "control_token"
    for change in ("none", "none", "open", "linked", "emptied"):
        if change == "open":
            file.chmod(0o644)
        elif change == "linked":
            elsewhere = tmp_path / "elsewhere"
            elsewhere.write_text("f" * 48)
            elsewhere.chmod(0o600)
            file.unlink()
            file.symlink_to(elsewhere)
        elif change == "emptied":
            file.write_text("")
        async with PaperExchange(PaperConfig(step=True, data_folder=tmp_path)) as paper:
            assert paper.addresses()["control_token_file"] == str(file)
            assert file.stat().st_mode & 0o777 == 0o600
            tokens.append(file.read_text().strip())
            async with PaperControl(paper.addresses()) as control:
                await control.state()
    assert tokens[0] == tokens[1]
    assert len(set(tokens)) == 4
    assert "f" * 48 not in tokens


async def test_the_client_says_that_the_token_is_wrong(tmp_path: Path) -> None:
    """A token of another exchange is refused with a code and a sentence that names the file."""
    other = tmp_path / "token"
    other.write_text("0" * 48)
    async with PaperExchange(PaperConfig(step=True)) as paper:
        async with PaperControl(paper.addresses() | {"control_token_file": str(other)}) as control:
            with pytest.raises(ControlError, match="control_token") as refused:
                await control.state()
        assert refused.value.code == "UNAUTHORIZED"


async def test_the_control_interface_stays_on_loopback_in_a_container() -> None:
    """An exchange that listens on every address keeps its control interface on loopback."""
    async with PaperExchange(PaperConfig(step=True, host="0.0.0.0")) as paper:  # noqa: S104 - this is tested here
        assert paper.control_url.startswith("http://127.0.0.1:")
        async with PaperControl(paper.addresses()) as control:
            await control.state()
