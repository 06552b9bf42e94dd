-- The slot: events committed from here on are published, earlier rows are not.
-- It holds WAL until outboxd has published it: create it last, and drop it when outboxd is given up:
--   outboxd init --remove prints the SQL.
-- Refuses a slot of that name of another kind, or of another database.
\set ON_ERROR_STOP on
SET search_path = pg_catalog, pg_temp;
SET row_security = off;
SET default_transaction_isolation = 'read committed';
DO $outboxd$ BEGIN PERFORM pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind'; END $outboxd$;

DO $outboxd$
DECLARE
  fault text := (
    SELECT CASE
      WHEN slot_type <> 'logical' THEN pg_catalog.format('it is a %s slot', slot_type)
      WHEN plugin <> 'pgoutput' THEN pg_catalog.format('its plugin is %s', plugin)
      WHEN database <> pg_catalog.current_database() THEN pg_catalog.format('it belongs to database %s', database)
      WHEN temporary THEN 'it is temporary'
      WHEN two_phase THEN 'it is a slot with two_phase'
      WHEN confirmed_flush_lsn IS NULL THEN pg_catalog.format('process %s is still creating it', active_pid)
    END FROM pg_catalog.pg_replication_slots WHERE slot_name = 'outboxd');
BEGIN
  IF fault IS NOT NULL THEN
    RAISE EXCEPTION 'slot "%" is unsuitable: %', 'outboxd', fault USING HINT = 'Set another name under postgres.slot.';
  END IF;
END
$outboxd$;

-- Its start is entered into the journal (05_journal.sql) by the same statement: outboxd backfill needs it.
DO $outboxd$
DECLARE
  fault record;
  made record;
BEGIN
  IF EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = 'outboxd') THEN
    RETURN;
  END IF;
  FOR turn IN 1..3 LOOP
    SELECT * INTO fault FROM (
  WITH trusted AS (
    SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolsuper OR r.rolreplication OR (r.rolcreaterole AND pg_catalog.current_setting('server_version_num')::int < 160000) OR pg_catalog.pg_has_role(r.oid, (SELECT relay.oid FROM pg_catalog.pg_roles AS relay WHERE relay.rolname = 'outboxd'), 'MEMBER')),
  journal AS (
    SELECT n.oid, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'outboxd'),
  relation AS (
    SELECT c.* FROM pg_catalog.pg_class AS c JOIN journal AS n ON n.oid = c.relnamespace
    WHERE c.relname IN ('checkpoint', 'checkpoint_history', 'job'))
  SELECT f.reason, CASE
    WHEN f.rank IN (1, 4) THEN 'ALTER SCHEMA outboxd RENAME TO ...; and run outboxd init again, or set postgres.journal: off. '
      'If it was the journal: see that its tables are ordinary ones with nothing attached to them, and copy the rows with INSERT ... SELECT.'
    WHEN f.rank = 13 THEN 'Run what outboxd init prints (schema, tables and grants), or set postgres.journal: off.'
    ELSE coalesce('If it is the journal: ' || f.remedy, '') || 'If it is not the journal: ALTER SCHEMA outboxd RENAME TO ...; '
      'and run outboxd init again, or set postgres.journal: off.' END AS remedy
  FROM (
    SELECT 1 AS rank, pg_catalog.format('the schema outboxd belongs to role "%s", who could replace the journal',
        pg_catalog.pg_get_userbyid(n.nspowner)) AS reason, NULL AS remedy
    FROM journal AS n WHERE n.nspowner NOT IN (TABLE trusted)
    UNION ALL
    SELECT 2, pg_catalog.format('%s may create objects in the schema outboxd',
        CASE a.grantee WHEN 0 THEN 'every role' ELSE pg_catalog.format('role "%s"', pg_catalog.pg_get_userbyid(a.grantee)) END),
      pg_catalog.format('REVOKE CREATE ON SCHEMA outboxd FROM %s; ',
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)
    FROM journal AS n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
    WHERE a.privilege_type = 'CREATE' AND a.grantee NOT IN (TABLE trusted)
    UNION ALL
    SELECT v.rank, pg_catalog.format('outboxd.%s, which belongs to role "%s", %s', c.relname,
      pg_catalog.pg_get_userbyid(c.relowner), v.fault), v.remedy
    FROM relation AS c CROSS JOIN LATERAL (VALUES
      (3, 'is not an ordinary table', NULL, c.relkind <> 'r' OR c.relpersistence <> 'p' OR c.relispartition
        OR EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE c.oid IN (i.inhrelid, i.inhparent))),
      (4, 'could be made to call functions by that role', NULL, c.relowner NOT IN (TABLE trusted)),
      (5, 'has a trigger', 'Drop the trigger. ', EXISTS (SELECT FROM pg_catalog.pg_trigger AS t
        WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)),
      (6, 'has a rule', 'Drop the rule. ', EXISTS (SELECT FROM pg_catalog.pg_rewrite AS r WHERE r.ev_class = c.oid)),
      (7, 'has row security', 'Drop its policies, and disable row security. ', c.relrowsecurity
        OR EXISTS (SELECT FROM pg_catalog.pg_policy AS p WHERE p.polrelid = c.oid)),
      (8, 'lets others create triggers on it', pg_catalog.format(
        'REVOKE TRIGGER, REFERENCES ON outboxd.%s FROM everybody who has it. ', c.relname),
        EXISTS (SELECT FROM pg_catalog.aclexplode(c.relacl) AS a
          WHERE a.privilege_type IN ('TRIGGER', 'REFERENCES') AND a.grantee NOT IN (TABLE trusted))
        OR EXISTS (SELECT FROM pg_catalog.pg_attribute AS t CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) AS a
          WHERE t.attrelid = c.oid AND a.privilege_type = 'REFERENCES' AND a.grantee NOT IN (TABLE trusted))),
      (9, 'has a foreign key, or another table has one to it', 'Drop the foreign key. ', EXISTS (
        SELECT FROM pg_catalog.pg_constraint AS k WHERE k.contype = 'f' AND c.oid IN (k.conrelid, k.confrelid))),
      (10, 'has extended statistics', 'Drop the statistics. ', EXISTS (
        SELECT FROM pg_catalog.pg_statistic_ext AS s WHERE s.stxrelid = c.oid)),
      (11, 'uses a function, operator or type that is not of Postgres itself', NULL, EXISTS (
        SELECT FROM (SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::oid AS classid, c.oid AS objid
          UNION ALL SELECT d.classid, d.objid FROM pg_catalog.pg_depend AS d
          WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = c.oid
            AND d.classid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_attrdef'::pg_catalog.regclass,
              'pg_catalog.pg_constraint'::pg_catalog.regclass)) AS part
        JOIN pg_catalog.pg_depend AS d USING (classid, objid)
        WHERE d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass,
          'pg_catalog.pg_operator'::pg_catalog.regclass, 'pg_catalog.pg_type'::pg_catalog.regclass)))
    ) AS v(rank, fault, remedy, holds) WHERE v.holds
    UNION ALL
    SELECT 12, pg_catalog.format('the schema outboxd was not made by outboxd: outboxd.%s has no column %s', c.relname, u.name), NULL
    FROM relation AS c JOIN (VALUES ('checkpoint', '{slot,lsn,snapshot,system_identifier,timeline,updated_at}'::text[]),
      ('checkpoint_history', '{slot,lsn,snapshot,system_identifier,timeline,recorded_at}'),
      ('job', '{id,slot,command,request,position,events,started_at,updated_at,finished_at}')) AS w(relname, names) USING (relname) CROSS JOIN LATERAL pg_catalog.unnest(w.names) AS u(name)
    WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
      WHERE a.attrelid = c.oid AND a.attname = u.name::pg_catalog.name AND NOT a.attisdropped)
    UNION ALL
    SELECT 12, pg_catalog.format('the schema outboxd was not made by outboxd: it has %s, and no table checkpoint',
      pg_catalog.min(c.relname)), NULL
    FROM pg_catalog.pg_class AS c JOIN journal AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT EXISTS (SELECT FROM relation WHERE relname = 'checkpoint')
    HAVING pg_catalog.count(*) > 0
  UNION ALL
  SELECT 13, 'there is no table outboxd.checkpoint', NULL WHERE NOT EXISTS (SELECT FROM relation WHERE relname = 'checkpoint')) AS f
  ORDER BY f.rank, f.reason LIMIT 1
  ) AS judgement;
  IF fault.reason IS NOT NULL THEN
    RAISE EXCEPTION '%', fault.reason USING HINT = fault.remedy;
  END IF;
    IF turn = 1 THEN
      LOCK TABLE outboxd.checkpoint IN ACCESS SHARE MODE;
    ELSIF turn = 2 THEN
    IF EXISTS (SELECT FROM outboxd.checkpoint WHERE slot = 'outboxd') AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = 'outboxd') THEN
  RAISE EXCEPTION USING MESSAGE = 'slot outboxd does not exist, and outboxd.checkpoint records that it did: read what outboxd run reports before a new one is created';
END IF;
      SELECT * INTO made FROM pg_catalog.pg_create_logical_replication_slot('outboxd'::pg_catalog.name, 'pgoutput'::pg_catalog.name);
      LOCK TABLE outboxd.checkpoint IN SHARE ROW EXCLUSIVE MODE;
    END IF;
  END LOOP;
  INSERT INTO outboxd.checkpoint (slot, lsn, system_identifier, timeline, start_lsn)
  VALUES (made.slot_name, made.lsn, (SELECT system_identifier FROM pg_catalog.pg_control_system()),
    ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(made.lsn), 1, 8))::bit(32)::bigint, made.lsn);
EXCEPTION WHEN OTHERS THEN
  IF made IS NOT NULL THEN
    PERFORM pg_catalog.pg_drop_replication_slot(made.slot_name);
  END IF;
  RAISE;
END
$outboxd$;
