CREATE OR REPLACE VIEW old.trade_strategy_link AS
-- What decided each order, as scripts of the systems before read it: `indicators_fired` is their number, `indicators`
-- are their names. Linkage that was imported has no names.
SELECT l.order_id, l.client_order_id, l.snapshot_id, l.buy_score, l.sell_score, l.trigger_type, l.sell_trigger,
       l.indicator_breakdown, cardinality(l.indicators_fired) AS indicators_fired, l.indicators_fired AS indicators,
       l.exit_reason, l.linked_at, l.completed_at, o.account
  FROM public.trade_strategy_link l JOIN public.orders o USING (order_key)
UNION ALL
SELECT i.order_id, i.client_order_id, i.snapshot_id, i.buy_score, i.sell_score, i.trigger_type, i.sell_trigger,
       i.indicator_breakdown, i.indicators_fired, '{}'::text[], i.exit_reason, i.at, NULL, i.account
  FROM public.imported_records i WHERE i.trigger_type IS NOT NULL
