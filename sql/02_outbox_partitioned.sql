-- Instead of 01_outbox.sql: the outbox table, partitioned by day. Retention is then DROP TABLE, without bloat.
-- The publication must have publish_via_partition_root = true (04_publication.sql has it).
-- Refuses tables and functions of these names unless their owner is a superuser, the role that runs this, or a
-- member of that role.
\set ON_ERROR_STOP on
SET search_path = pg_catalog, pg_temp;
SET row_security = off;
SET default_transaction_isolation = 'read committed';
DO $outboxd$ BEGIN PERFORM pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind'; END $outboxd$;

DO $outboxd$
DECLARE
  other record;
BEGIN
  -- Created objects are examined, too, before they are called: another role may have created them at the same moment.
  FOR turn IN 1..2 LOOP
    SELECT found.name, r.rolname INTO other FROM (
      SELECT c.relname AS name, c.relowner AS owner, c.relnamespace AS schema FROM pg_catalog.pg_class AS c
      WHERE c.relname IN ('outbox', 'outbox_default')
      UNION ALL
      SELECT p.proname, p.proowner, p.pronamespace FROM pg_catalog.pg_proc AS p
      WHERE p.proname = 'outbox_create_partitions') AS found
    JOIN pg_catalog.pg_namespace AS n ON n.oid = found.schema JOIN pg_catalog.pg_roles AS r ON r.oid = found.owner
    WHERE n.nspname = 'public' AND NOT (r.rolsuper OR pg_catalog.pg_has_role(r.oid, current_user, 'MEMBER'))
    LIMIT 1;
    IF FOUND THEN
      RAISE EXCEPTION 'public.% exists and belongs to role "%"', other.name, other.rolname
        USING HINT = 'If it is the outbox, run this as that role; otherwise drop or rename it.';
    END IF;
    EXIT WHEN turn = 2;
    IF pg_catalog.to_regclass('public.outbox') IS NULL THEN
      CREATE TABLE public.outbox (
        id            uuid        NOT NULL DEFAULT gen_random_uuid(),
        aggregatetype text        NOT NULL CHECK (aggregatetype <> ''),
        aggregateid   text        NOT NULL CHECK (aggregateid <> ''),
        type          text        NOT NULL CHECK (type <> ''),
        payload       jsonb       CHECK (octet_length(payload::text) <= 900000),
        headers       jsonb       CHECK (headers IS NULL OR jsonb_typeof(headers) = 'object'),
        created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (id, created_at)
      ) PARTITION BY RANGE (created_at);
    END IF;

    -- An insert never fails for want of a partition.
    CREATE TABLE IF NOT EXISTS public.outbox_default PARTITION OF public.outbox DEFAULT;

    -- Creates the partitions of today (UTC) and of the following days.
    CREATE OR REPLACE FUNCTION public.outbox_create_partitions(days integer DEFAULT 7) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $function$
    DECLARE
      first_day constant date := (now() AT TIME ZONE 'UTC')::date;
      day date;
    BEGIN
      FOR number IN 0..days LOOP
        day := first_day + number;
        EXECUTE format(
          'CREATE TABLE IF NOT EXISTS public.%I PARTITION OF public.outbox FOR VALUES FROM (%L) TO (%L)',
          'outbox_' || to_char(day, 'YYYYMMDD'), day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00');
      END LOOP;
    END
    $function$;
  END LOOP;
  PERFORM public.outbox_create_partitions(7);
END
$outboxd$;

-- Call it daily, from cron or pg_cron, as the table's owner, and with the number of days: a function of that name without
-- a parameter may be another role's.
--   SELECT public.outbox_create_partitions(7);
-- Retention, for a day whose events are all published and no longer needed for a replay:
--   DROP TABLE public.outbox_20260101;
