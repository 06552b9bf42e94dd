-- The outbox table. The column names are those of Debezium's outbox event router.
-- A row is inserted in the transaction of the change that it describes, and is never updated.
-- Refuses a table of that name unless its owner is a superuser, the role that runs this, or a member of that role.
\set ON_ERROR_STOP on
SET search_path = pg_catalog, pg_temp;
SET row_security = off;
SET default_transaction_isolation = 'read committed';
DO $outboxd$ BEGIN PERFORM pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind'; END $outboxd$;

DO $outboxd$
DECLARE
  other text := (
    SELECT pg_catalog.pg_get_userbyid(c.relowner) FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_catalog.pg_roles AS r ON r.oid = c.relowner
    WHERE n.nspname = 'public' AND c.relname = 'outbox'
      AND NOT (r.rolsuper OR pg_catalog.pg_has_role(r.oid, current_user, 'MEMBER')));
BEGIN
  IF other IS NOT NULL THEN
    RAISE EXCEPTION 'public.outbox exists and belongs to role "%"', other
      USING HINT = 'If it is the outbox, run this as that role; otherwise drop or rename it.';
  END IF;
  IF pg_catalog.to_regclass('public.outbox') IS NULL THEN
    CREATE TABLE public.outbox (
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
  END IF;
  -- For clean-up by age. A BRIN index costs an insert next to nothing.
  CREATE INDEX IF NOT EXISTS outbox_created_at ON public.outbox USING brin (created_at);
END
$outboxd$;
