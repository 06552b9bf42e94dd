-- What outboxd reads: the inserts of the outbox table, of all its partitions under the table's own name.
-- Refuses a publication of that name that holds other tables, or that another relay reads and that would be altered.
-- Never drop it while the slot is in use: what was committed without it cannot be decoded afterwards.
DO $outboxd$
DECLARE
  others text := (
  SELECT CASE WHEN p.puballtables THEN 'all tables' ELSE (
    SELECT string_agg(format('%s.%s', n.nspname, c.relname), ', ' ORDER BY n.nspname, c.relname)
    FROM (SELECT prrelid AS relid FROM pg_catalog.pg_publication_rel WHERE prpubid = p.oid
      UNION SELECT t.oid FROM pg_catalog.pg_publication_namespace s
      JOIN pg_catalog.pg_class t ON t.relnamespace = s.pnnspid AND t.relkind IN ('r', 'p')
      WHERE s.pnpubid = p.oid) AS member
    JOIN pg_catalog.pg_class c ON c.oid = coalesce(pg_catalog.pg_partition_root(relid)::oid, relid)
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname, c.relname) NOT IN (('public', 'outbox'))) END
  FROM pg_catalog.pg_publication p WHERE p.pubname = 'outboxd');
  users text := NULL;
BEGIN
  IF others IS NOT NULL THEN
    RAISE EXCEPTION 'publication "%" does not belong to this relay: it publishes %, which no outbox of this configuration names',
      'outboxd', others USING HINT = 'Set a name of its own for this relay under postgres.publication, or add those tables under outboxes.';
  END IF;
  IF EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'outboxd' AND pubinsert AND pubviaroot) AND EXISTS (SELECT FROM pg_catalog.pg_publication_tables WHERE pubname = 'outboxd' AND schemaname = 'public' AND tablename = 'outbox') THEN
    RETURN;
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'outboxd') THEN
    CREATE PUBLICATION "outboxd" FOR TABLE "public"."outbox"
      WITH (publish = 'insert', publish_via_partition_root = true);
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'outboxd' AND c.relname = 'checkpoint' AND has_schema_privilege(n.oid, 'USAGE')
      AND has_table_privilege(c.oid, 'SELECT')) THEN
    SELECT string_agg(c.slot, ', ') INTO users FROM outboxd.checkpoint c
    JOIN pg_catalog.pg_replication_slots s ON s.slot_name = c.slot
    JOIN pg_catalog.pg_publication p ON p.oid::text = split_part(to_jsonb(c)->>'publication', ' ', 1)
    WHERE p.pubname = 'outboxd' AND c.slot <> 'outboxd';
  END IF;
  IF users IS NOT NULL THEN
    RAISE EXCEPTION 'publication "%" would have to be altered, and slot % of another relay reads it too',
      'outboxd', users USING HINT = 'Set a name of its own for this relay under postgres.publication, or add those tables under outboxes.';
  END IF;
  IF EXISTS (SELECT FROM pg_catalog.pg_publication WHERE pubname = 'outboxd' AND NOT (pubinsert AND pubviaroot)) THEN
    ALTER PUBLICATION "outboxd" SET (publish = 'insert', publish_via_partition_root = true);
  END IF;
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_publication_tables WHERE pubname = 'outboxd' AND schemaname = 'public' AND tablename = 'outbox') THEN
    -- A transaction that has written to it would be published in part: it must end first.
    PERFORM set_config('lock_timeout', '5s', true);
    LOCK TABLE "public"."outbox" IN SHARE MODE;
    ALTER PUBLICATION "outboxd" ADD TABLE "public"."outbox";
  END IF;
END
$outboxd$;
