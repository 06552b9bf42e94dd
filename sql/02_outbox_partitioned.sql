-- Instead of 01_outbox.sql: the outbox table, partitioned by day. Retention is then DROP TABLE, without bloat.
-- The publication must have publish_via_partition_root = true (04_publication.sql has it).
SET search_path = pg_catalog, pg_temp;

CREATE TABLE IF NOT EXISTS public.outbox (
  id            uuid        NOT NULL DEFAULT gen_random_uuid(),
  aggregatetype text        NOT NULL CHECK (aggregatetype <> ''),
  aggregateid   text        NOT NULL CHECK (aggregateid <> ''),
  type          text        NOT NULL CHECK (type <> ''),
  payload       jsonb       CHECK (octet_length(payload::text) <= 900000),
  headers       jsonb       CHECK (headers IS NULL OR jsonb_typeof(headers) = 'object'),
  created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (id, created_at)
) PARTITION BY RANGE (created_at);

-- An insert never fails for want of a partition.
CREATE TABLE IF NOT EXISTS public.outbox_default PARTITION OF public.outbox DEFAULT;

-- Makes the partitions of today (UTC) and of the days after it. Call it daily, from cron or pg_cron.
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

SELECT public.outbox_create_partitions();

-- Retention, for a day whose events are all published and beyond what replay needs:
--   DROP TABLE public.outbox_20260101;
