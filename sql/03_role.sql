-- The role that outboxd connects as. Set its password with \password outboxd.
-- Amazon RDS and Aurora: CREATE ROLE outboxd LOGIN; GRANT rds_replication TO outboxd;
\set ON_ERROR_STOP on
SET search_path = pg_catalog, pg_temp;
SET row_security = off;
SET default_transaction_isolation = 'read committed';
DO $outboxd$ BEGIN PERFORM pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind'; END $outboxd$;

DO $outboxd$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'outboxd') THEN
    CREATE ROLE outboxd LOGIN REPLICATION;
  END IF;
END
$outboxd$;
