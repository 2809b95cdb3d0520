"""`python -m exchange.paper`: the same as `bottrader paper`."""

import typer

from exchange.paper.command import paper

if __name__ == "__main__":
    typer.run(paper)
