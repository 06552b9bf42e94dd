-- The role that outboxd connects as. Set its password with \password outboxd.
-- Amazon RDS and Aurora: CREATE ROLE outboxd LOGIN; GRANT rds_replication TO outboxd;
SET search_path = pg_catalog, pg_temp;

DO $outboxd$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'outboxd') THEN
    CREATE ROLE outboxd LOGIN REPLICATION;
  END IF;
END
$outboxd$;
