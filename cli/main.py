"""The `bottrader` command.

Exit codes: 0 done, 1 the answer is no (a check failed, an order was refused), 2 bad input (nothing was done), 3 a
required service does not answer, 4 an internal error, 130 stopped by Ctrl-C. Errors are one sentence on stderr.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from cli import config as config_commands
from cli import config_import
from cli import db as db_commands
from cli import stack as stack_commands
from cli.api import api_app
from cli.balance import balance
from cli.control import flatten, halt, resume
from cli.demo.command import demo
from cli.errors import as_user_error
from cli.fifo import fifo_app
from cli.import_old import import_app
from cli.ledger_commands import ledger_app
from cli.live import live_app
from cli.notices import incident_app, incidents, notify_app
from cli.output import print_error, wants_json
from cli.paper import paper
from cli.quotes import quotes_app
from cli.reconcile import reconcile
from cli.report import report_app
from cli.status import status
from cli.strategy import strategy_app
from cli.stream import stream_app
from cli.telegram import telegram_app
from cli.trading import order_app, orders, trade_app, trades
from cli.web import web
from cli.why import why
from workers.errors import ExitCode
from workers.leave import leave
from workers.private_files import make_private

__all__ = ["app", "main", "run"]

app = typer.Typer(
    name="bottrader",
    help="Crypto trading on Temporal: every order and trade is a durable workflow.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_VERSION_HELP = "Print the version and exit."


def _print_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"bottrader {version('bottrader')}")
        raise typer.Exit


@app.callback()
def _options(
    config: Annotated[
        Path | None, typer.Option("--config", help="Settings file; default: BOTTRADER_CONFIG, then ./bottrader.toml.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help=_VERSION_HELP)
    ] = False,
) -> None:
    """Options of every command."""
    del version
    if config is not None:
        # Through the environment, so that the processes we start read the same file.
        os.environ["BOTTRADER_CONFIG"] = str(config.absolute())


app.command("up")(stack_commands.up)
app.command("worker")(stack_commands.worker)
app.command("web")(web)
app.add_typer(api_app, name="api")
app.add_typer(telegram_app, name="telegram")
app.command("status")(status)
app.command("balance")(balance)
app.command("doctor")(stack_commands.doctor)
app.command("demo")(demo)
app.command("paper")(paper)
app.add_typer(stream_app, name="stream")
app.add_typer(order_app, name="order")
app.command("orders")(orders)
app.add_typer(trade_app, name="trade")
app.command("trades")(trades)
app.add_typer(fifo_app, name="fifo")
app.command("incidents")(incidents)
app.add_typer(incident_app, name="incident")
app.add_typer(notify_app, name="notify")
app.add_typer(live_app, name="live")
app.command("halt")(halt)
app.command("resume")(resume)
app.command("flatten")(flatten)
app.add_typer(quotes_app, name="quotes")
app.add_typer(strategy_app, name="strategy")
app.command("reconcile")(reconcile)
app.command("why")(why)
app.add_typer(ledger_app, name="ledger")
app.add_typer(import_app, name="import")
app.add_typer(report_app, name="report")
config_commands.config_app.command("import")(config_import.import_env)
app.add_typer(config_commands.config_app, name="config")
app.add_typer(db_commands.db_app, name="db")


def run(argv: list[str]) -> int:
    """Run the command line `argv` and return its exit code; no error is shown as a traceback."""
    try:
        result = typer.main.get_command(app).main(args=argv, prog_name="bottrader", standalone_mode=False)
    except typer.Abort:
        return 130
    except typer.Exit as stop:
        return stop.exit_code
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(error.format_message() + "\n")
            return int(ExitCode.BAD_INPUT)
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "bottrader"
        sys.stderr.write(f"error: {error.format_message()}\nSee `{where} --help`.\n")
        return int(ExitCode.BAD_INPUT)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of our output has left, as `head` does. Nothing more can be said, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    except Exception as error:  # noqa: BLE001 - the outermost edge: every error becomes a sentence here
        found = as_user_error(error)
        print_error(found, as_json=wants_json(argv))
        return int(found.exit_code)
    return result if isinstance(result, int) else int(ExitCode.OK)


def main() -> None:
    """The console script."""
    make_private()
    leave(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
