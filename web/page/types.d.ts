/** The API's answers (docs/api.md). Money and sizes are exact decimal text, times ISO 8601 in UTC. */

export type Money = string;
export type Time = string;

export interface About {
  account: string;
  mode: "paper" | "live";
  dry_run: boolean;
  speed: string;
  temporal_ui: string | null;
  namespace: string;
}

export interface Session {
  name: string;
  role: "view" | "trade";
  csrf: string | null;
  ends_at: Time | null;
  idle_s: number | null;
  about: About;
}

export type Kind = "entry" | "exit" | "protection" | "quote" | "external";

export interface OrderRow {
  order_key: string;
  workflow_id: string;
  symbol: string;
  side: "BUY" | "SELL";
  role: string;
  kind: Kind;
  protection_role: string | null;
  order_type: string;
  post_only: boolean;
  time_in_force: string | null;
  state: string;
  public_state: string;
  gate: string | null;
  sentence: string | null;
  refusal: string | null;
  refusal_text: string | null;
  base_size: Money | null;
  quote_size: Money | null;
  limit_price: Money | null;
  filled_size: Money;
  filled_fraction: Money | null;
  average_price: Money | null;
  fees: Money;
  bid: Money | null;
  ask: Money | null;
  price_at: Time | null;
  distance_to_touch: Money | null;
  trigger: string;
  source: string;
  entry_point: string;
  exit_reason: string | null;
  entry_key: string | null;
  trade_state: string | null;
  snapshot_id: string | null;
  buy_score: Money | null;
  sell_score: Money | null;
  attempts: number;
  status_source: string | null;
  achieved_net: Money | null;
  slippage: Money | null;
  received_at: Time;
  placed_at: Time | null;
  first_fill_at: Time | null;
  last_fill_at: Time | null;
  finished_at: Time | null;
  ended_at: Time | null;
}

export interface TradeRow {
  entry_key: string;
  workflow_id: string;
  exit_workflow_id: string;
  symbol: string;
  currency: string;
  state: string;
  entry_state: string;
  entry_final: boolean;
  watched: boolean | null;
  protections: number;
  unprotected_seconds: Money;
  entry_size: Money;
  entry_price: Money | null;
  remaining: Money;
  hard_stop: Money | null;
  soft_stop: Money | null;
  trailing_arms_at: Money | null;
  trailing_peak: Money | null;
  trailing_stop: Money | null;
  take_profit: Money | null;
  nearest_stop: Money | null;
  stop_distance: Money | null;
  at_risk: Money | null;
  bid: Money | null;
  price_at: Time | null;
  unrealised_pnl: Money | null;
  would_gain_fraction: Money | null;
  exit_size: Money;
  exit_price: Money | null;
  exit_reason: string | null;
  exits: number;
  pnl: Money | null;
  result_fraction: Money | null;
  unit_of_risk: Money | null;
  result_in_risk: Money | null;
  slippage: Money | null;
  fees: Money;
  dust_size: Money;
  dust_why: string | null;
  external_size: Money;
  trigger: string;
  source: string;
  entry_point: string;
  buy_score: Money | null;
  sell_score: Money | null;
  snapshot_id: string | null;
  opened_at: Time;
  closed_at: Time | null;
}

export interface EventRow {
  id: number;
  at: Time;
  severity: "INFO" | "WARNING" | "CRITICAL";
  kind: string;
  subject: string | null;
  sentence: string;
  resolved_at: Time | null;
  symbol: string | null;
  side: "BUY" | "SELL" | null;
  role: string | null;
  messages: number;
  targets: number;
  told_at: Time | null;
}

export interface Price {
  symbol: string;
  bid: Money | null;
  ask: Money | null;
  price: Money | null;
  at: Time;
}

export interface Summary {
  counts: Record<string, number>;
  switch: { halted: boolean; by: string; reason: string; since: Time | null };
  today: {
    currency: string;
    pnl: Money | null;
    unpriced: string[] | number | null;
    loss_limit: Money | null;
    losses_in_a_row: number;
    losses_in_a_row_limit: number | null;
  };
  prices?: { oldest_at: Time | null; symbols: number };
  [more: string]: any;
}

export interface Answer {
  accepted: boolean;
  sentence: string;
  kept?: boolean;
  changed?: boolean | null;
  items?: Array<Record<string, any>> | null;
}

export interface Page<Row> {
  items: Row[];
  next_cursor: string | null;
}
