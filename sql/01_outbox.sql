-- The outbox table. The column names are those of Debezium's outbox event router.
-- A row is inserted in the transaction of the change that it tells of, and is never updated.
SET search_path = pg_catalog, pg_temp;

CREATE TABLE IF NOT EXISTS public.outbox (
  id            uuid        NOT NULL DEFAULT gen_random_uuid() PRIMARY KEY,
  aggregatetype text        NOT NULL CHECK (aggregatetype <> ''),
  aggregateid   text        NOT NULL CHECK (aggregateid <> ''),
  type          text        NOT NULL CHECK (type <> ''),
  -- NULL is a tombstone. Kafka's own limit is 1 MiB for a whole message.
  payload       jsonb       CHECK (octet_length(payload::text) <= 900000),
  -- Extension attributes of the event: {"correlationid": "...", "traceparent": "..."}
  headers       jsonb       CHECK (headers IS NULL OR jsonb_typeof(headers) = 'object'),
  created_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (
  -- Rows come and go in bulk: vacuum by their number, not by a share of the table.
  autovacuum_vacuum_scale_factor = 0,
  autovacuum_vacuum_threshold = 10000,
  autovacuum_vacuum_insert_scale_factor = 0,
  autovacuum_vacuum_insert_threshold = 100000,
  autovacuum_vacuum_cost_delay = 0
);

-- For clean-up by age. A BRIN index costs an insert next to nothing.
CREATE INDEX IF NOT EXISTS outbox_created_at ON public.outbox USING brin (created_at);
