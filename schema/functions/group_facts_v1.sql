CREATE OR REPLACE FUNCTION group_facts(
    p_account text, p_kinds text[], p_names text[], p_triggers text[], p_counts bool[], p_loses bool[], p_own text[],
    p_ending text, p_all bool)
RETURNS TABLE (kind text, name text, halted bool, reason text, changed_by text, changed_at timestamptz,
               until timestamptz, open_trades int, symbols text[], money numeric[], day_pnl numeric,
               day_unpriced text[], of_all int)
LANGUAGE plpgsql STABLE SET plan_cache_mode = 'force_generic_plan' AS $$
-- Planned once: a plan for each call's arrays takes longer than the answer.
-- Of each trigger of each group: kind and name of the group, the trigger, whether what is open is limited, whether the
-- day's loss is. p_own: names of the account's own currency, p_ending: how its symbols end. p_all: whether all of the
-- account's open trades are counted. What isn't limited is not read, but `of_all` counts whatever is. Trades are summed
-- by symbol before anything is made of the symbol. A trade of before has no trigger of its own: looked up one by one, as
-- a join would be planned as a scan of orders.
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH used AS MATERIALIZED (
        SELECT t.entry_trigger AS trigger, t.symbol, count(*) AS trades,
               sum((t.bought_value + t.bought_quote_fees) * t.remaining
                   / nullif(t.bought_size - t.bought_base_fees, 0)) AS money
          FROM trades t
         WHERE (true = ANY (p_counts) OR p_all) AND t.account = p_account AND t.state <> 'CLOSED'
           AND t.entry_trigger IS NOT NULL
         GROUP BY t.entry_trigger, t.symbol
        UNION ALL
        SELECT (SELECT o.trigger FROM orders o WHERE o.order_key = t.entry_key), t.symbol, 1,
               (t.bought_value + t.bought_quote_fees) * t.remaining / nullif(t.bought_size - t.bought_base_fees, 0)
          FROM trades t
         WHERE (true = ANY (p_counts) OR p_all) AND t.account = p_account AND t.state <> 'CLOSED'
           AND t.entry_trigger IS NULL
        UNION ALL
        SELECT o.trigger, o.symbol,
               count(*) FILTER (WHERE NOT EXISTS (SELECT FROM trades t WHERE t.entry_key = o.order_key
                                                     AND t.state <> 'CLOSED')),
               sum(greatest(o.reserved_quote - o.filled_value - o.quote_fees, 0))
          FROM orders o
         WHERE (true = ANY (p_counts) OR p_all) AND o.account = p_account AND NOT o.finished AND o.role = 'ENTRY'
         GROUP BY o.trigger, o.symbol
    )
    SELECT g.kind, g.name, coalesce(c.halted AND (c.until IS NULL OR c.until > now()), false), c.reason, c.changed_by,
           c.changed_at, c.until, coalesce(own.trades, 0)::int, own.symbols, own.money, coalesce(lost.pnl, 0),
           coalesce(lost.unpriced, '{}'), (SELECT coalesce(sum(u.trades), 0) FROM used u)::int
      FROM (SELECT 1) one
      LEFT JOIN (SELECT n.kind, n.name, array_agg(n.trigger) AS triggers, bool_or(n.loses) AS loses
                   FROM unnest(p_kinds, p_names, p_triggers, p_loses) AS n (kind, name, trigger, loses)
                  GROUP BY n.kind, n.name) g ON true
      LEFT JOIN group_controls c ON c.account = p_account AND c.kind = g.kind AND c.name = g.name
      LEFT JOIN LATERAL (SELECT sum(u.trades) AS trades, array_agg(u.symbol) AS symbols, array_agg(u.money) AS money
                           FROM used u WHERE u.trigger = ANY (g.triggers)) own ON true
      LEFT JOIN LATERAL (
        SELECT sum(CASE WHEN s.is_own THEN s.pnl WHEN s.has_rate THEN s.converted END) AS pnl,
               array_agg(s.quote) FILTER (WHERE NOT s.is_own AND CASE WHEN s.has_rate THEN s.lacks_rate ELSE s.sold END)
                   AS unpriced
          FROM (SELECT split_part(translate(t.symbol, '_', '-'), '-', 2) AS quote,
                       right(t.symbol, length(p_ending)) = p_ending
                           OR split_part(translate(t.symbol, '_', '-'), '-', 2) = ANY (p_own) AS is_own,
                       coalesce(t.quote_rate_currency = ANY (p_own), false) AS has_rate,
                       sum(t.pnl) AS pnl, sum(t.pnl * t.quote_rate) AS converted, bool_or(t.sold_size > 0) AS sold,
                       bool_or(t.sold_size > 0 AND t.quote_rate IS NULL) AS lacks_rate
                  FROM trades t
                 WHERE g.loses AND t.account = p_account AND t.state = 'CLOSED'
                   AND t.closed_at >= date_trunc('day', now(), 'UTC')
                   AND (c.account IS NULL OR c.halted OR t.closed_at > c.changed_at)
                   AND coalesce(t.entry_trigger, (SELECT o.trigger FROM orders o WHERE o.order_key = t.entry_key))
                       = ANY (g.triggers)
                 GROUP BY t.symbol, t.quote_rate_currency) s) lost ON true;
END
$$
