-- The slot: events committed from here on are published, earlier rows are not.
-- It holds WAL until outboxd has published it: create it last, and drop it when outboxd is given up:
--   SELECT pg_drop_replication_slot('outboxd');
SELECT pg_create_logical_replication_slot('outboxd', 'pgoutput')
WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'outboxd');
