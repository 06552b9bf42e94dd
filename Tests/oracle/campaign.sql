-- The truth of the table campaign: what the transactions that write to an outbox have committed, beside it.

CREATE SCHEMA truth;

CREATE TABLE truth.aggregate (box text, key text, version bigint NOT NULL, PRIMARY KEY (box, key));

-- One row for each row that was inserted into an outbox.
CREATE TABLE truth.event (
  n bigserial PRIMARY KEY,
  id uuid NOT NULL UNIQUE,
  box text NOT NULL,
  key text NOT NULL,
  -- Ascends for each key in the order of the commits: its row in truth.aggregate is locked until then.
  version bigint NOT NULL,
  xid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
  -- Who owes it now. before: a backfill; stream: the relay; gap: a recovery; done: it must be in Kafka; outside: nobody.
  duty text NOT NULL,
  -- Who owed it at first.
  origin text NOT NULL,
  -- It was updated or moved, and nothing is promised of its order.
  changed boolean NOT NULL DEFAULT false
);

-- Writes events of random keys to a table of an outbox.
CREATE FUNCTION truth.emit(box text, tab text, keys text[], count int, duty text, part int DEFAULT NULL)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  k text;
  v bigint;
  e uuid;
BEGIN
  FOR i IN 1..count LOOP
    k := keys[1 + floor(random() * array_length(keys, 1))::int];
    INSERT INTO truth.aggregate AS a VALUES (box, k, 1)
      ON CONFLICT ON CONSTRAINT aggregate_pkey DO UPDATE SET version = a.version + 1 RETURNING version INTO v;
    -- A sequence does not go back: what is rolled back has an id that never comes again.
    e := md5(nextval('truth.event_n_seq')::text)::uuid;
    EXECUTE format(
      'INSERT INTO public.%I (id, aggregatetype, aggregateid, type, payload, part) VALUES ($1, $2, $3, $4, $5, $6)', tab)
      USING e, box, k, 'happened', jsonb_build_object('version', v), coalesce(part, v % 3);
    INSERT INTO truth.event (id, box, key, version, duty, origin) VALUES (e, box, k, v, duty, duty);
  END LOOP;
END $$;

CREATE FUNCTION truth.remove(tab text, share float8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN EXECUTE format('DELETE FROM public.%I WHERE random() < $1', tab) USING share; END $$;

-- Updates rows; `move` gives them another partition.
CREATE FUNCTION truth.touch(tab text, share float8, move boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE format(
    'WITH t AS (UPDATE public.%I SET filler = filler + 1, part = CASE WHEN $2 THEN (part + 1) %% 3 ELSE part END
       WHERE part < 3 AND random() < $1 RETURNING id)
     UPDATE truth.event SET changed = true WHERE id IN (SELECT id FROM t)', tab)
    USING share, move;
END $$;
