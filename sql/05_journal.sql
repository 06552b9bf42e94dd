-- Where outboxd keeps its checkpoints: one row for each slot, written about once a second.
-- With it outboxd notices a slot that was moved, lost or created again, and does not send events again that the slot
-- forgot in a restart of Postgres.
-- Refuses a schema of that name that outboxd did not create, or through which another role could run code: before and
-- after it creates anything.
\set ON_ERROR_STOP on
SET search_path = pg_catalog, pg_temp;
SET row_security = off;
SET default_transaction_isolation = 'read committed';
DO $outboxd$ BEGIN PERFORM pg_catalog.set_config(name, 'view, foreign-table', false) FROM pg_catalog.pg_settings WHERE name = 'restrict_nonsystem_relation_kind'; END $outboxd$;

DO $outboxd$
DECLARE
  fault record;
  made name[] := '{}';
  revocation text;
BEGIN
  FOR turn IN 1..2 LOOP
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
    HAVING pg_catalog.count(*) > 0) AS f
  ORDER BY f.rank, f.reason LIMIT 1
  ) AS judgement;
  IF fault.reason IS NOT NULL THEN
    RAISE EXCEPTION '%', fault.reason USING HINT = fault.remedy;
  END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = 'outboxd') THEN
      CREATE SCHEMA outboxd;
      made := made || 'outboxd'::name;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'outboxd' AND c.relname = 'checkpoint') THEN
      CREATE TABLE outboxd.checkpoint (
        slot text NOT NULL PRIMARY KEY,
        lsn pg_lsn NOT NULL,
        snapshot text,
        snapshot_lsn pg_lsn,
        system_identifier text NOT NULL,
        timeline bigint NOT NULL,
        publication text,
        start_lsn pg_lsn,
        start_snapshot text,
        updated_at timestamptz NOT NULL DEFAULT now()
      ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
      made := made || 'checkpoint'::name;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'outboxd' AND c.relname = 'checkpoint_history') THEN
      CREATE TABLE outboxd.checkpoint_history (
        slot text NOT NULL,
        lsn pg_lsn NOT NULL,
        snapshot text,
        snapshot_lsn pg_lsn,
        system_identifier text NOT NULL,
        timeline bigint NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (slot, recorded_at)
      );
      made := made || 'checkpoint_history'::name;
    END IF;
    IF NOT (SELECT count(*) = 5 FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'outboxd' AND NOT a.attisdropped AND c.relname IN ('checkpoint', 'checkpoint_history') AND a.attname IN ('snapshot_lsn', 'publication', 'start_lsn', 'start_snapshot')) THEN
      ALTER TABLE outboxd.checkpoint ADD COLUMN IF NOT EXISTS snapshot_lsn pg_lsn,
        ADD COLUMN IF NOT EXISTS publication text, ADD COLUMN IF NOT EXISTS start_lsn pg_lsn,
        ADD COLUMN IF NOT EXISTS start_snapshot text;
      ALTER TABLE outboxd.checkpoint_history ADD COLUMN IF NOT EXISTS snapshot_lsn pg_lsn;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = 'outboxd' AND c.relname = 'job') THEN
      CREATE TABLE outboxd.job (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        slot text NOT NULL,
        command text NOT NULL,
        request jsonb NOT NULL,
        position text,
        events bigint NOT NULL DEFAULT 0,
        started_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz
      );
      made := made || 'job'::name;
    END IF;
    FOR revocation IN
    WITH trusted AS (
    SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolsuper OR r.rolreplication OR (r.rolcreaterole AND pg_catalog.current_setting('server_version_num')::int < 160000) OR pg_catalog.pg_has_role(r.oid, (SELECT relay.oid FROM pg_catalog.pg_roles AS relay WHERE relay.rolname = 'outboxd'), 'MEMBER')),
  journal AS (
    SELECT n.oid, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace AS n WHERE n.nspname = 'outboxd'),
  relation AS (
    SELECT c.* FROM pg_catalog.pg_class AS c JOIN journal AS n ON n.oid = c.relnamespace
    WHERE c.relname IN ('checkpoint', 'checkpoint_history', 'job'))
  SELECT pg_catalog.format('REVOKE TRIGGER, REFERENCES ON outboxd.%I FROM %s', c.relname, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END) AS sql
  FROM relation AS c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS a
  WHERE c.relname = ANY (made) AND a.privilege_type IN ('TRIGGER', 'REFERENCES') AND a.grantee NOT IN (TABLE trusted)
  UNION
  SELECT pg_catalog.format('REVOKE CREATE ON SCHEMA outboxd FROM %s', CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)
  FROM journal AS n CROSS JOIN LATERAL pg_catalog.aclexplode(n.nspacl) AS a
  WHERE 'outboxd' = ANY (made) AND a.privilege_type = 'CREATE' AND a.grantee NOT IN (TABLE trusted)
    LOOP
      EXECUTE revocation;
    END LOOP;
  END LOOP;
END
$outboxd$;
