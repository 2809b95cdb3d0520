CREATE OR REPLACE VIEW old.passive_orders AS
-- Orders that rest at the exchange now, as scripts of the systems before read them.
SELECT order_id, client_order_id, symbol, lower(side) AS side, order_type, price, size, filled_size,
       lower(status) AS status, created_at, updated_at, account
  FROM public.passive_orders
