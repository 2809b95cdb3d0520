"""rp2's FIFO on fills from standard input, for `bench/fifo.py` and the tests: runs in an environment that has rp2.

In: a JSON list of {side, size, price, fee, time} in order of time, of one asset. Out: {"seconds": the engine's own
time, "parts": [[sell, lot, size, cost, gain], …]} with the positions of sell and lot in the input. Uses rp2's classes
like its own command, without the spreadsheets around them.
"""
# mypy: disable-error-code="import-not-found"
# rp2 is not installed where mypy runs: it has its own environment.

import json
import sys
import tempfile
import time
from pathlib import Path

from prezzemolo.avl_tree import AVLTree
from rp2.accounting_engine import AccountingEngine
from rp2.configuration import MAX_DATE, MIN_DATE, Configuration
from rp2.in_transaction import InTransaction
from rp2.input_data import InputData
from rp2.out_transaction import OutTransaction
from rp2.plugin.accounting_method.fifo import AccountingMethod
from rp2.plugin.country.us import US
from rp2.rp2_decimal import ZERO, RP2Decimal
from rp2.tax_engine import compute_tax
from rp2.transaction_set import TransactionSet

_CONFIGURATION = """[general]
assets = BTC
exchanges = exchange
holders = holder
[in_header]
timestamp = 0
[out_header]
timestamp = 0
[intra_header]
timestamp = 0
"""


def main() -> None:
    """Read, match with rp2, write."""
    fills = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rp2.ini"
        path.write_text(_CONFIGURATION)
        configuration = Configuration(str(path), US())
    began = time.process_time()
    sets = {name: TransactionSet(configuration, name, "BTC", MIN_DATE, MAX_DATE) for name in ("IN", "OUT", "INTRA")}
    for row, fill in enumerate(fills):
        common = {"configuration": configuration, "timestamp": fill["time"], "asset": "BTC", "exchange": "exchange"}
        common |= {"holder": "holder", "spot_price": RP2Decimal(fill["price"]), "row": row + 1}
        if fill["side"] == "buy":
            entry = InTransaction(
                transaction_type="BUY",
                crypto_in=RP2Decimal(fill["size"]),
                fiat_fee=RP2Decimal(fill["fee"]),
                **common,
            )
            sets["IN"].add_entry(entry)
        else:
            entry = OutTransaction(
                transaction_type="SELL", crypto_out_no_fee=RP2Decimal(fill["size"]), crypto_fee=ZERO, **common
            )
            sets["OUT"].add_entry(entry)
    methods = AVLTree()
    methods.insert_node(MIN_DATE.year, AccountingMethod())
    computed = compute_tax(
        configuration, AccountingEngine(methods), InputData("BTC", sets["IN"], sets["OUT"], sets["INTRA"])
    )
    parts = [
        [
            item.taxable_event.row - 1,
            item.acquired_lot.row - 1,
            str(item.crypto_amount),
            str(item.fiat_cost_basis),
            str(item.fiat_gain),
        ]
        for item in computed.gain_loss_set
    ]
    json.dump({"seconds": time.process_time() - began, "parts": parts}, sys.stdout)


if __name__ == "__main__":
    main()
