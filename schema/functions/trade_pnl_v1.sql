CREATE OR REPLACE FUNCTION trade_pnl(p_bought numeric, p_cost numeric, p_sold numeric, p_proceeds numeric)
RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
-- As `domain.outcome.trade_pnl`: net proceeds of what was sold, less its share of the cost (all with fees), in quote
-- currency. The share is rounded to 18 places, ties to even, by the whole quotient and its rest, since `/` rounds too.
-- `trades.pnl` stores the answers: another rule is another function and column, or rows of before keep this one's.
SELECT CASE
           WHEN p_bought <= 0 OR p_sold <= 0 THEN 0
           WHEN p_sold >= p_bought THEN p_proceeds - p_cost
           ELSE p_proceeds - 1e-18 * (div(p_cost * p_sold * 1e18, p_bought) + CASE
                    WHEN 2 * abs(mod(p_cost * p_sold * 1e18, p_bought)) > p_bought
                      OR (2 * abs(mod(p_cost * p_sold * 1e18, p_bought)) = p_bought
                          AND mod(div(p_cost * p_sold * 1e18, p_bought), 2) <> 0)
                    THEN sign(p_cost * p_sold) ELSE 0 END)
       END
$$
