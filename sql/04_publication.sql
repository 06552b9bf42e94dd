-- What outboxd reads: the inserts of the outbox table, of all its partitions under the table's own name.
-- Never drop it while the slot is in use: what was committed without it cannot be decoded afterwards.
DO $outboxd$
BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'outboxd') THEN
    CREATE PUBLICATION outboxd FOR TABLE public.outbox
      WITH (publish = 'insert', publish_via_partition_root = true);
  END IF;
END
$outboxd$;
