-- Streaming itself needs no grant on the table; check, replay and verification read it.
SET search_path = pg_catalog, pg_temp;

GRANT USAGE ON SCHEMA public TO outboxd;
GRANT SELECT ON public.outbox TO outboxd;
GRANT USAGE ON SCHEMA outboxd TO outboxd;
GRANT SELECT, INSERT, UPDATE ON outboxd.checkpoint TO outboxd;
GRANT SELECT, INSERT, DELETE ON outboxd.checkpoint_history TO outboxd;
GRANT SELECT, INSERT, UPDATE ON outboxd.job TO outboxd;
