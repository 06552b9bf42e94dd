-- The slot: events committed from here on are published, earlier rows are not.
-- It holds WAL until outboxd has published it: create it last, and drop it when outboxd is given up:
--   outboxd init --remove prints the SQL.
-- Refuses a slot of that name of another kind, or of another database.
DO $outboxd$
DECLARE
  fault text := (
    SELECT CASE
      WHEN slot_type <> 'logical' THEN format('it is a %s slot', slot_type)
      WHEN plugin <> 'pgoutput' THEN format('its plugin is %s', plugin)
      WHEN database <> current_database() THEN format('it belongs to database %s', database)
      WHEN temporary THEN 'it is temporary'
      WHEN two_phase THEN 'it is a slot with two_phase'
      WHEN confirmed_flush_lsn IS NULL THEN format('process %s is still creating it', active_pid)
    END FROM pg_catalog.pg_replication_slots WHERE slot_name = 'outboxd');
BEGIN
  IF fault IS NOT NULL THEN
    RAISE EXCEPTION 'slot "%" is unsuitable: %', 'outboxd', fault USING HINT = 'Set another name under postgres.slot.';
  END IF;
END
$outboxd$;

-- Its start is entered into the journal (05_journal.sql) in the same statement: outboxd backfill needs it.
WITH created AS MATERIALIZED (
  SELECT pg_create_logical_replication_slot('outboxd', 'pgoutput') AS slot
  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'outboxd'))
INSERT INTO outboxd.checkpoint (slot, lsn, system_identifier, timeline, start_lsn)
SELECT (slot).slot_name, (slot).lsn, (SELECT system_identifier FROM pg_control_system()),
  ('x' || substr(pg_walfile_name((slot).lsn), 1, 8))::bit(32)::bigint, (slot).lsn
FROM created ON CONFLICT (slot) DO NOTHING;
