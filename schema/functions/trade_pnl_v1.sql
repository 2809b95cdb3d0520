CREATE OR REPLACE FUNCTION trade_pnl(p_bought numeric, p_cost numeric, p_sold numeric, p_proceeds numeric)
RETURNS numeric LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
-- As `domain.outcome.trade_pnl`: net proceeds of what was sold, less its share of the cost (all with fees), in quote
-- currency. The share is rounded to 18 places, ties to even, by the whole quotient and its rest, since `/` rounds too.
-- `trades.pnl` stores the answers: another rule is another function and column, or rows of before keep this one's.
-- In SQL it would be planned anew with each statement that writes a trade.
DECLARE
    v_whole numeric;
    v_rest numeric;
BEGIN
    IF p_bought <= 0 OR p_sold <= 0 THEN
        RETURN 0;
    ELSIF p_sold >= p_bought THEN
        RETURN p_proceeds - p_cost;
    END IF;
    v_whole := div(p_cost * p_sold * 1e18, p_bought);
    v_rest := 2 * abs(mod(p_cost * p_sold * 1e18, p_bought));
    IF v_rest > p_bought OR (v_rest = p_bought AND mod(v_whole, 2) <> 0) THEN
        v_whole := v_whole + sign(p_cost * p_sold);
    END IF;
    RETURN p_proceeds - 1e-18 * v_whole;
END
$$
