-- Streaming itself needs no grant on the table; check, backfill, replay and recover read it.
\set ON_ERROR_STOP on
SET search_path = pg_catalog, pg_temp;
SET row_security = off;
SET default_transaction_isolation = 'read committed';
DO $outboxd$ BEGIN PERFORM pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind'; END $outboxd$;

GRANT USAGE ON SCHEMA public TO outboxd;
GRANT SELECT ON public.outbox TO outboxd;
GRANT USAGE ON SCHEMA outboxd TO outboxd;
GRANT SELECT, INSERT, UPDATE ON outboxd.checkpoint TO outboxd;
GRANT SELECT, INSERT, DELETE ON outboxd.checkpoint_history TO outboxd;
GRANT SELECT, INSERT, UPDATE ON outboxd.job TO outboxd;
