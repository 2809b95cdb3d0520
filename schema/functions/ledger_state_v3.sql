CREATE OR REPLACE FUNCTION ledger_state(p_account text, p_order_key text, p_since timestamptz, p_cover numeric)
RETURNS text LANGUAGE plpgsql STABLE AS $$
-- p_since: the new fill's time; the sells after it and the lots that they hold are told, too (null: none).
-- p_cover: lots are told, oldest first, until they hold this much more (base). `cut`: there are others after them.
DECLARE
    v_order orders%ROWTYPE;
    v_sells json := '[]';
    v_sell_ids bigint[];
    v_wanted numeric := coalesce(p_cover, 0);
    v_freed bigint := 0;
    v_lots json[] := '{}';
    v_cut boolean := false;
    v_lot record;
    v_all refcursor;
BEGIN
    SELECT * INTO v_order FROM orders WHERE order_key = p_order_key;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    IF p_since IS NOT NULL THEN
        SELECT coalesce(json_agg(json_build_object('id', id, 'order', exchange_order_id, 'size', size, 'value', value,
                                                   'quote_fees', quote_fees, 'base_fees', base_fees, 'at', at)
                                 ORDER BY at, id), '[]'),
               array_agg(id), v_wanted + coalesce(sum(size + base_fees), 0)
          INTO v_sells, v_sell_ids, v_wanted
          FROM fills
         WHERE account = p_account AND symbol = v_order.symbol AND side = 'SELL' AND size > 0 AND at > p_since;
    END IF;
    IF v_sell_ids IS NOT NULL THEN
        SELECT count(DISTINCT buy_fill) INTO v_freed FROM fifo_allocations WHERE sell_fill = ANY(v_sell_ids);
        OPEN v_all NO SCROLL FOR
            WITH freed AS MATERIALIZED (
                SELECT buy_fill, sum(size) AS size FROM fifo_allocations
                 WHERE sell_fill = ANY(v_sell_ids) AND buy_fill IS NOT NULL GROUP BY 1),
            ids AS (
                SELECT id FROM fills WHERE account = p_account AND symbol = v_order.symbol AND side = 'BUY'
                   AND lot_remaining > 0
                UNION SELECT buy_fill FROM freed)
            SELECT f.id, f.exchange_order_id, f.size, f.value, f.quote_fees, f.base_fees, f.at, f.lot_remaining,
                   coalesce(b.size, 0) AS freed
              FROM ids JOIN fills f USING (id) LEFT JOIN freed b ON b.buy_fill = f.id ORDER BY f.at, f.id;
    ELSIF v_order.side = 'SELL' THEN
        OPEN v_all NO SCROLL FOR
            SELECT f.id, f.exchange_order_id, f.size, f.value, f.quote_fees, f.base_fees, f.at, f.lot_remaining,
                   0::numeric AS freed
              FROM fills f WHERE f.account = p_account AND f.symbol = v_order.symbol AND f.side = 'BUY'
               AND f.lot_remaining > 0 ORDER BY f.at, f.id;
    END IF;
    IF v_all IS NOT NULL THEN
        LOOP
            FETCH v_all INTO v_lot;
            EXIT WHEN NOT FOUND;
            IF v_wanted <= 0 AND v_freed <= 0 THEN
                v_cut := true;
                EXIT;
            END IF;
            v_wanted := v_wanted - v_lot.lot_remaining - v_lot.freed;
            v_freed := v_freed - (v_lot.freed > 0)::int;
            v_lots := array_append(v_lots, json_build_object(
                'id', v_lot.id, 'order', v_lot.exchange_order_id, 'size', v_lot.size, 'value', v_lot.value,
                'quote_fees', v_lot.quote_fees, 'base_fees', v_lot.base_fees, 'at', v_lot.at,
                'left', v_lot.lot_remaining, 'freed', v_lot.freed));
        END LOOP;
        CLOSE v_all;
    END IF;
    RETURN json_build_object(
        'order', json_build_object(
            'order_key', v_order.order_key, 'symbol', v_order.symbol, 'side', v_order.side, 'role', v_order.role,
            'entry_key', v_order.entry_key, 'order_type', v_order.order_type, 'exit_reason', v_order.exit_reason,
            'protection_role', v_order.protection_role, 'finished', v_order.finished, 'state', v_order.state,
            'limit_price', v_order.limit_price, 'filled_size', v_order.filled_size,
            'filled_value', v_order.filled_value, 'quote_fees', v_order.quote_fees, 'base_fees', v_order.base_fees,
            'trigger_price', v_order.intent ->> 'trigger_price', 'due_at', v_order.intent ->> 'due_at'),
        'attempts', (
            SELECT coalesce(json_agg(json_build_object(
                       'number', number, 'client_order_id', client_order_id, 'status', status, 'live', live,
                       'exchange_order_id', exchange_order_id, 'size', size, 'limit_price', limit_price,
                       'filled_size', filled_size, 'filled_value', filled_value, 'quote_fees', quote_fees,
                       'base_fees', base_fees, 'settled', settled_size) ORDER BY number), '[]')
              FROM attempts WHERE order_key = p_order_key),
        'trade', (
            SELECT json_build_object(
                       'remaining', remaining, 'state', state, 'entry_final', entry_final, 'bought_size', bought_size,
                       'bought_value', bought_value, 'bought_quote_fees', bought_quote_fees,
                       'rules', CASE WHEN v_order.role = 'EXIT' THEN rules::text END)
              FROM trades WHERE entry_key = v_order.entry_key),
        'sells', v_sells, 'lots', array_to_json(v_lots), 'cut', v_cut)::text;
END
$$
