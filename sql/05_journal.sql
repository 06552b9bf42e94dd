-- Where outboxd keeps its checkpoints: one row for each slot, written about once a second.
-- With it outboxd notices a slot that was moved, lost or created anew, and does not send again what the slot
-- forgot in a restart of Postgres.
-- Refuses a schema of that name that outboxd has not made.
DO $outboxd$
DECLARE
  fault text := (
    SELECT format('outboxd.%s has no column %s', w.relname, w.attname)
    FROM (VALUES ('checkpoint', 'slot'), ('checkpoint', 'lsn'), ('checkpoint', 'snapshot'), ('checkpoint', 'system_identifier'), ('checkpoint', 'timeline'), ('checkpoint', 'updated_at'), ('checkpoint_history', 'slot'), ('checkpoint_history', 'lsn'), ('checkpoint_history', 'snapshot'), ('checkpoint_history', 'system_identifier'), ('checkpoint_history', 'timeline'), ('checkpoint_history', 'recorded_at'), ('job', 'id'), ('job', 'slot'), ('job', 'command'), ('job', 'request'), ('job', 'position'), ('job', 'events'), ('job', 'started_at'), ('job', 'updated_at'), ('job', 'finished_at')) AS w(relname, attname)
    JOIN pg_catalog.pg_class c ON c.relname = w.relname
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'outboxd'
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = c.oid AND a.attname = w.attname AND NOT a.attisdropped) LIMIT 1);
  foreigner text := (
    SELECT min(c.relname) FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'outboxd'
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (SELECT FROM pg_catalog.pg_class j
      WHERE j.relnamespace = n.oid AND j.relname = 'checkpoint'));
BEGIN
  IF fault IS NULL AND foreigner IS NOT NULL THEN
    fault := format('it has %s, and no table checkpoint', foreigner);
  END IF;
  IF fault IS NOT NULL THEN
    RAISE EXCEPTION 'the schema outboxd was not made by outboxd: %', fault USING HINT = 'Rename that schema, or set postgres.journal: off, and outboxd runs without a journal.';
  END IF;
END
$outboxd$;

CREATE SCHEMA IF NOT EXISTS outboxd;

CREATE TABLE IF NOT EXISTS outboxd.checkpoint (
  slot              text        NOT NULL PRIMARY KEY,
  -- Every transaction that ends at or below it is published.
  lsn               pg_lsn      NOT NULL,
  -- Every row visible in it is published; NULL until that is known of one. See pg_visible_in_snapshot.
  snapshot          text,
  -- The snapshot was taken before the WAL had got here.
  snapshot_lsn      pg_lsn,
  system_identifier text        NOT NULL,
  timeline          bigint      NOT NULL,
  -- The publication as it was seen last, its tables by OID with name and partitions: a change shows.
  publication       text,
  -- Where the slot began, and exactly the rows that had been committed before: what outboxd backfill publishes.
  start_lsn         pg_lsn,
  start_snapshot    text,
  updated_at        timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Earlier checkpoints, one every ten seconds while events pass, for seven days.
CREATE TABLE IF NOT EXISTS outboxd.checkpoint_history (
  slot              text        NOT NULL,
  lsn               pg_lsn      NOT NULL,
  snapshot          text,
  snapshot_lsn      pg_lsn,
  system_identifier text        NOT NULL,
  timeline          bigint      NOT NULL,
  recorded_at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (slot, recorded_at)
);

-- The columns that a journal of an earlier version lacks.
ALTER TABLE outboxd.checkpoint
  ADD COLUMN IF NOT EXISTS snapshot_lsn pg_lsn, ADD COLUMN IF NOT EXISTS publication text,
  ADD COLUMN IF NOT EXISTS start_lsn pg_lsn, ADD COLUMN IF NOT EXISTS start_snapshot text;
ALTER TABLE outboxd.checkpoint_history ADD COLUMN IF NOT EXISTS snapshot_lsn pg_lsn;

-- Replays and backfills, and how far they got, so that an interrupted one can go on.
CREATE TABLE IF NOT EXISTS outboxd.job (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  slot        text        NOT NULL,
  command     text        NOT NULL,
  request     jsonb       NOT NULL,
  position    text,
  events      bigint      NOT NULL DEFAULT 0,
  started_at  timestamptz NOT NULL DEFAULT now(),
  updated_at  timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);
