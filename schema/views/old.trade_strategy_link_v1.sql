CREATE OR REPLACE VIEW old.trade_strategy_link AS
-- What decided each order, as scripts of the systems before read it: `indicators_fired` is their number, `indicators`
-- are their names.
SELECT l.order_id, l.client_order_id, l.snapshot_id, l.buy_score, l.sell_score, l.trigger_type, l.sell_trigger,
       l.indicator_breakdown, cardinality(l.indicators_fired) AS indicators_fired, l.indicators_fired AS indicators,
       l.exit_reason, l.linked_at, l.completed_at, o.account
  FROM public.trade_strategy_link l JOIN public.orders o USING (order_key)
