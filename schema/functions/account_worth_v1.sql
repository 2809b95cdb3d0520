CREATE OR REPLACE FUNCTION account_worth(
    p_account text, p_quote text, p_balance_s double precision, p_price_s double precision,
    OUT worth numeric, OUT why text)
LANGUAGE plpgsql STABLE AS $$
-- The quote currency, with what fills changed since its balance was read, and the account's open trades in it at their
-- prices. Balance and prices count for so many seconds. While it isn't known `worth` is null, and `why` is a clause.
DECLARE
    v_balance balances%ROWTYPE;
    v_asked timestamptz;
    v_unpriced text;
BEGIN
    SELECT * INTO v_balance FROM balances b WHERE b.account = p_account AND b.currency = p_quote;
    -- whoever reads them reads all currencies, so any tells when one that is not named was empty
    v_asked := coalesce(v_balance.asked_at, (SELECT max(b.asked_at) FROM balances b WHERE b.account = p_account));
    IF v_asked IS NULL OR v_asked < now() - p_balance_s * interval '1 second'
       OR greatest(v_asked, v_balance.answered_at) > now() + interval '5 seconds' THEN
        why := format('no fresh balance of %s is known', p_quote);
        RETURN;
    END IF;
    SELECT coalesce(v_balance.available + v_balance.hold, 0)
           + coalesce(sum(CASE WHEN f.side = 'BUY' THEN -(f.value + f.quote_fees)
                               WHEN f.at > coalesce(v_balance.answered_at, v_asked) THEN f.value - f.quote_fees
                               ELSE 0 END), 0)
      INTO worth FROM fills f
     WHERE f.account = p_account AND f.recorded_at > v_asked
       AND right(f.symbol, length(p_quote) + 1) IN ('-' || p_quote, '_' || p_quote);
    SELECT worth + coalesce(sum(held.value), 0),
           string_agg(held.symbol, ', ' ORDER BY held.symbol) FILTER (WHERE held.value IS NULL)
      INTO worth, v_unpriced
      FROM (SELECT t.symbol, t.size * CASE WHEN m.at > now() - p_price_s * interval '1 second'
                                            AND m.at < now() + interval '5 seconds'
                                           THEN coalesce(m.price, m.bid) END AS value
              FROM (SELECT t.symbol, sum(t.remaining) AS size FROM trades t
                     WHERE t.account = p_account AND t.state <> 'CLOSED'
                       AND right(t.symbol, length(p_quote) + 1) IN ('-' || p_quote, '_' || p_quote)
                     GROUP BY t.symbol) t
              LEFT JOIN market_prices m ON m.account = p_account AND m.symbol = t.symbol
             WHERE t.size > 0) held;
    IF v_unpriced IS NOT NULL THEN
        worth := NULL;
        why := format('no fresh price of %s is known', v_unpriced);
    END IF;
END
$$
