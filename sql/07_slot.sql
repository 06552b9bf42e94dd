-- The slot: events committed from here on are published, earlier rows are not.
-- It holds WAL until outboxd has published it: create it last, and drop it when outboxd is given up:
--   SELECT pg_drop_replication_slot('outboxd');
-- Its start is entered into the journal (05_journal.sql) in the same statement: outboxd backfill needs it.
WITH created AS MATERIALIZED (
  SELECT pg_create_logical_replication_slot('outboxd', 'pgoutput') AS slot
  WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'outboxd'))
INSERT INTO outboxd.checkpoint (slot, lsn, system_identifier, timeline, start_lsn)
SELECT (slot).slot_name, (slot).lsn, (SELECT system_identifier FROM pg_control_system()),
  ('x' || substr(pg_walfile_name((slot).lsn), 1, 8))::bit(32)::bigint, (slot).lsn
FROM created ON CONFLICT (slot) DO NOTHING;
