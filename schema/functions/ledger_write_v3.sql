CREATE OR REPLACE FUNCTION ledger_write(p_account text, p_order_key text, w jsonb)
RETURNS void LANGUAGE plpgsql AS $$
-- The symbol's lock is held. A fill that is new has the number 9223372036854775807 in `lots` and `allocations`.
DECLARE
    c_new CONSTANT bigint := 9223372036854775807;
    v_order orders%ROWTYPE;
    v_fill bigint;
BEGIN
    IF w ? 'attempt' THEN
        UPDATE attempts a
           SET status = x.status, live = a.live AND NOT x.final, filled_size = x.filled_size,
               filled_value = x.filled_value, quote_fees = x.quote_fees, base_fees = x.base_fees,
               status_source = x.status_source, exchange_order_id = coalesce(a.exchange_order_id, x.exchange_order_id),
               acknowledged_at = coalesce(a.acknowledged_at, now()),
               final_at = CASE WHEN x.final THEN coalesce(a.final_at, x.at) END,
               refusal_text = coalesce(a.refusal_text, x.reason)
          FROM jsonb_to_record(w -> 'attempt') AS x (
               client_order_id text, status text, final boolean, filled_size numeric, filled_value numeric,
               quote_fees numeric, base_fees numeric, status_source text, exchange_order_id text, at timestamptz,
               reason text)
         WHERE a.client_order_id = x.client_order_id;
        UPDATE orders o
           SET state = x.state, filled_size = x.filled_size, filled_value = x.filled_value, quote_fees = x.quote_fees,
               base_fees = x.base_fees, status_source = x.status_source, placed_at = coalesce(o.placed_at, now()),
               first_fill_at = coalesce(o.first_fill_at, x.filled_at),
               last_fill_at = coalesce(x.filled_at, o.last_fill_at)
          FROM jsonb_to_record(w -> 'order') AS x (
               state text, filled_size numeric, filled_value numeric, quote_fees numeric, base_fees numeric,
               status_source text, filled_at timestamptz)
         WHERE o.order_key = p_order_key;
    END IF;
    SELECT * INTO v_order FROM orders WHERE order_key = p_order_key;
    IF w ? 'fill' THEN
        INSERT INTO fills (fill_key, account, symbol, side, order_key, client_order_id, exchange_order_id, origin,
                           ingest_via, size, price, value, quote_fees, base_fees, at, lot_remaining)
        SELECT x.fill_key, p_account, v_order.symbol, v_order.side, p_order_key, x.client_order_id,
               x.exchange_order_id, 'derived', x.ingest_via, x.size, x.price, x.value, x.quote_fees, x.base_fees, x.at,
               x.lot_remaining
          FROM jsonb_to_record(w -> 'fill') AS x (
               fill_key text, client_order_id text, exchange_order_id text, ingest_via text, size numeric,
               price numeric, value numeric, quote_fees numeric, base_fees numeric, at timestamptz,
               lot_remaining numeric)
        RETURNING id INTO v_fill;
    END IF;
    IF w ? 'record' THEN
        INSERT INTO trade_records (order_id, account, order_key, client_order_id, symbol, side, order_time, price,
               size, total_fees_usd, trigger, exit_reason, order_type, status, source, remaining_size, ingest_via)
        SELECT x.order_id, p_account, p_order_key, x.client_order_id, v_order.symbol, v_order.side, x.order_time,
               x.price, x.size, x.fees, jsonb_build_object('trigger', v_order.trigger, 'snapshot_id',
               v_order.snapshot_id), v_order.exit_reason, v_order.order_type, x.status, v_order.source,
               CASE v_order.side WHEN 'BUY' THEN 0 END, x.ingest_via
          FROM jsonb_to_record(w -> 'record') AS x (
               order_id text, client_order_id text, order_time timestamptz, price numeric, size numeric, fees numeric,
               status text, ingest_via text)
            ON CONFLICT (order_id, account) DO UPDATE SET price = excluded.price, size = excluded.size,
               total_fees_usd = excluded.total_fees_usd, status = excluded.status;
    END IF;
    IF w ? 'take_back' THEN
        DELETE FROM fifo_allocations
         WHERE sell_fill IN (SELECT value::bigint FROM jsonb_array_elements_text(w -> 'take_back'));
    END IF;
    IF w ? 'lots' THEN
        UPDATE fills f SET lot_remaining = x.remaining
          FROM jsonb_to_recordset(w -> 'lots') AS x (id bigint, remaining numeric)
         WHERE f.id = CASE x.id WHEN c_new THEN v_fill ELSE x.id END;
    END IF;
    IF w ? 'allocations' THEN
        INSERT INTO fifo_allocations (account, symbol, sell_fill, buy_fill, sell_order_id, buy_order_id, size,
               sell_price, buy_price, sell_fee_per_unit, buy_fee_per_unit, cost_basis, proceeds, net_proceeds, pnl,
               buy_time, sell_time)
        SELECT p_account, v_order.symbol, CASE x.sell_fill WHEN c_new THEN v_fill ELSE x.sell_fill END,
               CASE x.buy_fill WHEN c_new THEN v_fill ELSE x.buy_fill END, x.sell_order_id, x.buy_order_id, x.size,
               x.sell_price, x.buy_price, x.sell_fee_per_unit, x.buy_fee_per_unit, x.cost_basis, x.proceeds,
               x.net_proceeds, x.pnl, x.buy_time, x.sell_time
          FROM jsonb_to_recordset(w -> 'allocations') AS x (
               sell_fill bigint, buy_fill bigint, sell_order_id text, buy_order_id text, size numeric,
               sell_price numeric, buy_price numeric, sell_fee_per_unit numeric, buy_fee_per_unit numeric,
               cost_basis numeric, proceeds numeric, net_proceeds numeric, pnl numeric, buy_time timestamptz,
               sell_time timestamptz);
    END IF;
    IF w ? 'refresh_buys' THEN
        UPDATE trade_records r
           SET remaining_size = f.remaining,
               realized_profit = (SELECT sum(pnl) FROM fifo_allocations a
                                   WHERE a.account = p_account AND a.buy_order_id = r.order_id)
          FROM (SELECT exchange_order_id, sum(lot_remaining) AS remaining FROM fills
                 WHERE account = p_account
                   AND exchange_order_id = ANY(ARRAY(SELECT jsonb_array_elements_text(w -> 'refresh_buys')))
                 GROUP BY 1) f
         WHERE r.account = p_account AND r.order_id = f.exchange_order_id AND r.side = 'BUY';
    END IF;
    IF w ? 'refresh_sells' THEN
        UPDATE trade_records r
           SET pnl_usd = a.pnl, realized_profit = a.pnl, cost_basis_usd = a.cost, sale_proceeds_usd = a.proceeds,
               net_sale_proceeds_usd = a.net, parent_ids = a.parents, parent_id = a.parents[1], remaining_size = NULL
          FROM (SELECT sell_order_id, sum(pnl) AS pnl, sum(cost_basis) AS cost, sum(proceeds) AS proceeds,
                       sum(net_proceeds) AS net,
                       coalesce(array_agg(buy_order_id ORDER BY buy_time, buy_fill)
                                FILTER (WHERE buy_order_id IS NOT NULL), '{}') AS parents
                  FROM fifo_allocations
                 WHERE account = p_account
                   AND sell_order_id = ANY(ARRAY(SELECT jsonb_array_elements_text(w -> 'refresh_sells')))
                 GROUP BY sell_order_id) a
         WHERE r.account = p_account AND r.order_id = a.sell_order_id;
    END IF;
    IF w ? 'link' THEN
        INSERT INTO trade_strategy_link (order_key, order_id, client_order_id, snapshot_id, buy_score, sell_score,
               trigger_type, sell_trigger, indicator_breakdown, indicators_fired, entry_key, exit_reason)
        SELECT p_order_key, x.order_id, x.client_order_id, v_order.snapshot_id, v_order.buy_score, v_order.sell_score,
               v_order.trigger, CASE WHEN v_order.role = 'EXIT' THEN v_order.exit_reason END,
               v_order.indicator_breakdown, v_order.indicators_fired, v_order.entry_key, v_order.exit_reason
          FROM jsonb_to_record(w -> 'link') AS x (order_id text, client_order_id text)
            ON CONFLICT (order_key) DO NOTHING;
    END IF;
    IF w ? 'leg' THEN
        UPDATE orders SET protection_role = w #>> '{leg,role}', exit_reason = w #>> '{leg,reason}',
               trigger = w #>> '{leg,reason}' WHERE order_key = p_order_key;
        UPDATE trade_strategy_link SET exit_reason = w #>> '{leg,reason}', sell_trigger = w #>> '{leg,reason}',
               trigger_type = w #>> '{leg,reason}' WHERE order_key = p_order_key;
        UPDATE trade_records SET exit_reason = w #>> '{leg,reason}' WHERE order_key = p_order_key;
        UPDATE trades SET exit_reason = w #>> '{leg,reason}'
         WHERE entry_key = v_order.entry_key AND state <> 'CLOSED';
    END IF;
    IF w ? 'grow' THEN
        INSERT INTO trades AS t (entry_key, account, symbol, state, bought_size, bought_value, bought_quote_fees,
                                 bought_base_fees, rules, opened_at, protected_at, entry_trigger)
        SELECT v_order.entry_key, p_account, v_order.symbol, x.state, x.size, x.value, x.quote_fees, x.base_fees,
               coalesce(nullif(v_order.intent -> 'rules', 'null'), '{}'), x.at, now(), v_order.trigger
          FROM jsonb_to_record(w -> 'grow') AS x (
               state text, size numeric, value numeric, quote_fees numeric, base_fees numeric, at timestamptz)
            ON CONFLICT (entry_key) DO UPDATE SET
               state = excluded.state, bought_size = t.bought_size + excluded.bought_size,
               bought_value = t.bought_value + excluded.bought_value,
               bought_quote_fees = t.bought_quote_fees + excluded.bought_quote_fees,
               bought_base_fees = t.bought_base_fees + excluded.bought_base_fees,
               -- dust that was written off comes back to life with what arrived late
               dust_size = CASE WHEN excluded.bought_size > 0 THEN 0 ELSE t.dust_size END,
               closed_at = CASE WHEN excluded.bought_size > 0 THEN NULL ELSE t.closed_at END;
        INSERT INTO exit_plans AS p (entry_key, account, symbol, state, rules, entry_price, quantity)
        SELECT v_order.entry_key, p_account, v_order.symbol, 'ARMED',
               coalesce(nullif(v_order.intent -> 'rules', 'null'), '{}'), (w #>> '{grow,entry_price}')::numeric,
               t.remaining
          FROM trades t WHERE t.entry_key = v_order.entry_key
            ON CONFLICT (entry_key) DO UPDATE SET
               state = CASE WHEN p.state = 'DISARMED' AND (w #>> '{grow,size}')::numeric > 0 THEN 'ARMED'
                            ELSE p.state END,
               entry_price = excluded.entry_price, quantity = excluded.quantity,
               revision = nextval('exit_plan_revision'), updated_at = now();
        PERFORM pg_notify('exit_plan', v_order.entry_key);
    END IF;
    IF w ? 'shrink' THEN
        UPDATE exit_plans SET updated_at = now(),
               quantity = greatest(quantity - (w #>> '{shrink,size}')::numeric
                                            - (w #>> '{shrink,base_fees}')::numeric, 0)
         WHERE entry_key = v_order.entry_key;
        UPDATE trades t SET sold_size = t.sold_size + x.size, sold_value = t.sold_value + x.value,
               sold_quote_fees = t.sold_quote_fees + x.quote_fees, sold_base_fees = t.sold_base_fees + x.base_fees
          FROM jsonb_to_record(w -> 'shrink') AS x (size numeric, value numeric, quote_fees numeric, base_fees numeric)
         WHERE t.entry_key = v_order.entry_key;
    END IF;
    IF w ? 'record_status' THEN
        UPDATE trade_records SET status = w #>> '{record_status,status}'
         WHERE order_id = w #>> '{record_status,order_id}' AND account = p_account;
    END IF;
    IF w ? 'passive_gone' THEN
        DELETE FROM passive_orders WHERE client_order_id = w ->> 'passive_gone';
    END IF;
    IF w ? 'passive' THEN
        INSERT INTO passive_orders (client_order_id, account, order_key, order_id, symbol, side, order_type, price,
                                    size, filled_size, status)
        SELECT x.client_order_id, p_account, p_order_key, x.order_id, v_order.symbol, v_order.side, v_order.order_type,
               x.price, x.size, x.filled_size, x.status
          FROM jsonb_to_record(w -> 'passive') AS x (
               client_order_id text, order_id text, price numeric, size numeric, filled_size numeric, status text)
            ON CONFLICT (client_order_id) DO UPDATE SET filled_size = excluded.filled_size, status = excluded.status,
               updated_at = now();
    END IF;
    IF w ? 'finish' THEN
        -- no attempt will follow: what was not sent never will be, what was reserved or claimed is free again
        UPDATE attempts SET status = 'FAILED', live = false, final_at = now(), refusal = coalesce(refusal, 'NOT_SENT')
         WHERE order_key = p_order_key AND live AND sends = 0;
        UPDATE orders o
           SET state = x.state, finished = true, reserved_quote = 0, claimed_base = 0,
               refusal = coalesce(x.refusal, o.refusal), gate_sentence = coalesce(o.gate_sentence, x.sentence),
               finished_at = coalesce(o.finished_at, now())
          FROM jsonb_to_record(w -> 'finish') AS x (state text, refusal text, sentence text)
         WHERE o.order_key = p_order_key;
    END IF;
    IF w ? 'entry_final' THEN
        UPDATE trades SET entry_final = true WHERE entry_key = p_order_key;
    END IF;
    IF w ? 'exit' THEN
        UPDATE incidents SET resolved_at = now()
         WHERE account = p_account AND kind = 'EXIT_REFUSED' AND subject = v_order.entry_key AND resolved_at IS NULL;
        IF FOUND THEN
            INSERT INTO incidents (account, kind, severity, subject, sentence, details, resolved_at)
            VALUES (p_account, 'EXIT_ACCEPTED', 'INFO', v_order.entry_key, w #>> '{exit,again}', '{}', now());
        END IF;
        INSERT INTO trade_exits (order_key, entry_key, reason, target_fraction, trigger_price, size, average_price,
               achieved_gross, achieved_net, slippage, fees, path, attempts, trailing_state, due_at)
        SELECT p_order_key, v_order.entry_key, x.reason, x.target_fraction, x.trigger_price, x.size, x.average_price,
               x.achieved_gross, x.achieved_net, x.slippage, x.fees, x.path,
               (SELECT count(*) FROM attempts WHERE order_key = p_order_key),
               coalesce(nullif(v_order.intent -> 'trailing', 'null'), (
                   SELECT CASE WHEN stop IS NULL THEN NULL ELSE jsonb_build_object('peak', peak::text, 'stop',
                          stop::text, 'atr', atr::text, 'steps', steps) END
                     FROM exit_plans WHERE entry_key = v_order.entry_key)), x.due_at
          FROM jsonb_to_record(w -> 'exit') AS x (
               reason text, target_fraction numeric, trigger_price numeric, size numeric, average_price numeric,
               achieved_gross numeric, achieved_net numeric, slippage numeric, fees numeric, path text,
               due_at timestamptz)
            ON CONFLICT (order_key) DO UPDATE SET size = excluded.size, average_price = excluded.average_price,
               achieved_gross = excluded.achieved_gross, achieved_net = excluded.achieved_net,
               slippage = excluded.slippage, fees = excluded.fees, attempts = excluded.attempts;
    END IF;
    IF w ? 'incidents' THEN
        INSERT INTO incidents (account, kind, severity, subject, sentence, details)
        SELECT p_account, x.kind, x.severity, p_order_key, x.sentence, coalesce(x.details, '{}')
          FROM jsonb_to_recordset(w -> 'incidents') AS x (kind text, severity text, sentence text, details jsonb);
    END IF;
END
$$
