CREATE OR REPLACE VIEW old.trade_records AS
-- One row an order of the exchange's that has ended or traded, as scripts of the systems before read it. Amounts are in
-- `currency`; the columns called `_usd` are null where that is no dollar. What ended without a fill has size 0 and the
-- price that it asked for; one that the exchange never numbered goes by our client order id.
WITH records AS (
    SELECT r.order_id, r.parent_id, r.parent_ids, r.symbol, r.side, r.order_time, r.price, r.size, r.pnl_usd,
           r.total_fees_usd, r.trigger, r.order_type, r.status, r.source, r.cost_basis_usd, r.sale_proceeds_usd,
           r.net_sale_proceeds_usd, r.remaining_size, r.realized_profit, r.ingest_via, r.last_reconciled_at,
           r.last_reconciled_via, r.exit_reason, r.currency, r.account
      FROM public.trade_records r
    UNION ALL
    SELECT coalesce(a.exchange_order_id, a.client_order_id), NULL, '{}', o.symbol, o.side,
           coalesce(a.final_at, a.acknowledged_at, a.prepared_at), a.limit_price, 0, NULL, 0,
           jsonb_build_object('trigger', o.trigger, 'snapshot_id', o.snapshot_id), o.order_type, a.status, o.source,
           NULL, NULL, NULL, CASE o.side WHEN 'BUY' THEN 0 END, NULL,
           CASE WHEN a.status_source = 'websocket' THEN 'websocket' ELSE 'rest' END, NULL, NULL, o.exit_reason,
           split_part(translate(o.symbol, '_', '-'), '-', 2), o.account
      FROM public.attempts a JOIN public.orders o USING (order_key)
     WHERE a.status IN ('CANCELLED', 'EXPIRED', 'FAILED') AND (a.sends > 0 OR a.exchange_order_id IS NOT NULL)
       AND NOT EXISTS (SELECT FROM public.trade_records r
                        WHERE r.account = a.account AND r.order_id = a.exchange_order_id)
)
SELECT order_id, CASE side WHEN 'BUY' THEN order_id ELSE parent_id END AS parent_id, parent_ids, symbol,
       lower(side) AS side, order_time, price, size,
       CASE WHEN currency IN ('USD', 'USDC', 'USDT') THEN pnl_usd END AS pnl_usd,
       CASE WHEN currency IN ('USD', 'USDC', 'USDT') THEN total_fees_usd END AS total_fees_usd,
       trigger, order_type, lower(status) AS status, source,
       CASE WHEN currency IN ('USD', 'USDC', 'USDT') THEN cost_basis_usd END AS cost_basis_usd,
       CASE WHEN currency IN ('USD', 'USDC', 'USDT') THEN sale_proceeds_usd END AS sale_proceeds_usd,
       CASE WHEN currency IN ('USD', 'USDC', 'USDT') THEN net_sale_proceeds_usd END AS net_sale_proceeds_usd,
       remaining_size, realized_profit, ingest_via, last_reconciled_at, last_reconciled_via, exit_reason, currency,
       account
  FROM records
