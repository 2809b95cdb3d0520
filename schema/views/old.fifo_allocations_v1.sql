CREATE OR REPLACE VIEW old.fifo_allocations AS
-- Which buys each sell consumed, as scripts of the systems before read it; `_usd` columns are null where `currency` is
-- no dollar. A sale that no buy covers has no buy_order_id, and no cost.
WITH allocations AS (
    SELECT *, split_part(translate(symbol, '_', '-'), '-', 2) AS currency FROM public.fifo_allocations
)
SELECT sell_order_id, buy_order_id, symbol, size AS allocated_size, buy_price, sell_price,
       buy_fee_per_unit AS buy_fees_per_unit, sell_fee_per_unit AS sell_fees_per_unit,
       CASE WHEN currency IN ('USD', 'USDC', 'USDT') THEN cost_basis END AS cost_basis_usd,
       CASE WHEN currency IN ('USD', 'USDC', 'USDT') THEN proceeds END AS proceeds_usd,
       CASE WHEN currency IN ('USD', 'USDC', 'USDT') THEN net_proceeds END AS net_proceeds_usd,
       CASE WHEN currency IN ('USD', 'USDC', 'USDT') THEN pnl END AS pnl_usd,
       buy_time, sell_time, currency, account
  FROM allocations
