-- The outboxes of four services, a generator of load, and the truth that the oracle compares with.
-- The view truth.event has one row for each committed event, with all that its message must hold.
-- An aggregate's version is assigned under its row lock, so versions ascend in commit order.
SET client_min_messages = warning;

CREATE SCHEMA payments;
CREATE SCHEMA inventory;
CREATE SCHEMA notifications;
CREATE SCHEMA truth;
CREATE SCHEMA workload;

-- Orders: Debezium's columns. No time: the event's is the commit's.
CREATE TABLE public.outbox (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    aggregatetype varchar(255) NOT NULL,
    aggregateid varchar(255) NOT NULL,
    type varchar(255) NOT NULL,
    payload jsonb,
    version bigint NOT NULL
);

-- Payments: the other usual spelling, extension attributes from a headers column, text.
CREATE TABLE payments.outbox_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    aggregate_type text NOT NULL,
    aggregate_id text NOT NULL,
    event_type text NOT NULL,
    headers jsonb,
    payload text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    version bigint NOT NULL
);

-- Inventory: partitioned, bytes, a topic for each type.
CREATE TABLE inventory.outbox (
    id text NOT NULL DEFAULT gen_random_uuid()::text,
    aggregateid text NOT NULL,
    type text NOT NULL,
    payload bytea,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    bucket int NOT NULL,
    version bigint NOT NULL,
    PRIMARY KEY (bucket, id)
) PARTITION BY LIST (bucket);
CREATE TABLE inventory.outbox_0 PARTITION OF inventory.outbox FOR VALUES IN (0);
-- Another order of columns than its parent's.
CREATE TABLE inventory.outbox_1 (
    version bigint NOT NULL,
    gone int,
    payload bytea,
    type text NOT NULL,
    aggregateid text NOT NULL,
    id text NOT NULL DEFAULT gen_random_uuid()::text,
    bucket int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
ALTER TABLE inventory.outbox_1 DROP COLUMN gone;
ALTER TABLE inventory.outbox ATTACH PARTITION inventory.outbox_1 FOR VALUES IN (1);

-- Notifications: names of its own, a key of two columns, extension attributes from columns.
CREATE TABLE notifications.messages (
    message_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind text NOT NULL,
    tenant text NOT NULL,
    recipient text NOT NULL,
    occurred timestamp NOT NULL DEFAULT (clock_timestamp() AT TIME ZONE 'UTC'),
    schema_version int NOT NULL,
    correlation uuid,
    body json,
    version bigint NOT NULL
);

CREATE TABLE workload.business (id bigserial PRIMARY KEY, worker int, note text);

CREATE TABLE truth.setting (prefix text NOT NULL);
CREATE TABLE truth.control (stop bool NOT NULL);
INSERT INTO truth.control VALUES (false);
CREATE TABLE truth.aggregate (
    outbox text,
    key int,
    version bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (outbox, key)
) WITH (fillfactor = 50);

CREATE FUNCTION truth.microseconds(moment timestamptz) RETURNS bigint LANGUAGE sql STABLE
    RETURN (extract(epoch FROM moment) * 1000000)::bigint;

CREATE VIEW truth.orders AS
SELECT
    '/' || current_database() || '/public/outbox' AS source, id::text AS id,
    prefix || '.event.' || aggregatetype AS topic, encode(convert_to(aggregateid, 'UTF8'), 'hex') AS key,
    type, aggregateid AS subject, truth.microseconds(pg_xact_commit_timestamp(o.xmin)) AS time,
    CASE WHEN payload IS NOT NULL THEN 'application/json' END AS datacontenttype,
    NULL::text AS dataschema, NULL::text AS extensions,
    'binary' AS mode, NULL AS kind,
    encode(sha256(convert_to(payload::text, 'UTF8')), 'hex') AS sha, version
FROM public.outbox o, truth.setting;

CREATE VIEW truth.payments AS
SELECT
    '/payments' AS source, id::text AS id,
    prefix || '.payments.' || aggregate_type AS topic, encode(convert_to(aggregate_id, 'UTF8'), 'hex') AS key,
    event_type AS type, aggregate_id AS subject, truth.microseconds(created_at) AS time,
    CASE WHEN payload IS NOT NULL THEN 'text/plain; charset=utf-8' END AS datacontenttype,
    'https://schemas.example/payments/' || event_type AS dataschema,
    headers::text AS extensions,
    'structured' AS mode, 'text' AS kind,
    encode(sha256(convert_to(payload, 'UTF8')), 'hex') AS sha, version
FROM payments.outbox_events, truth.setting;

CREATE VIEW truth.inventory AS
SELECT
    'https://inventory.example/' || current_database() AS source, id,
    prefix || '.' || type AS topic, encode(convert_to(aggregateid, 'UTF8'), 'hex') AS key,
    type, aggregateid AS subject, truth.microseconds(created_at) AS time,
    CASE WHEN payload IS NOT NULL THEN 'application/octet-stream' END AS datacontenttype,
    NULL::text AS dataschema, NULL::text AS extensions,
    'binary' AS mode, NULL AS kind,
    encode(sha256(payload), 'hex') AS sha, version
FROM inventory.outbox, truth.setting;

CREATE VIEW truth.notifications AS
SELECT
    '/notifications' AS source, message_id::text AS id,
    prefix || '.notifications.v' || schema_version AS topic,
    encode(convert_to(tenant || '-' || recipient, 'UTF8'), 'hex') AS key,
    kind AS type, recipient AS subject, truth.microseconds(occurred AT TIME ZONE 'UTC') AS time,
    CASE WHEN body IS NOT NULL THEN 'application/json' END AS datacontenttype, NULL::text AS dataschema,
    jsonb_strip_nulls(jsonb_build_object(
        'correlationid', correlation, 'schemaversion', schema_version::text,
        'partitionkey', tenant || '-' || recipient))::text AS extensions,
    'structured' AS mode, 'json' AS kind,
    encode(sha256(convert_to(body::text, 'UTF8')), 'hex') AS sha, version
FROM notifications.messages, truth.setting;

CREATE VIEW truth.event AS
SELECT * FROM truth.orders UNION ALL SELECT * FROM truth.payments
UNION ALL SELECT * FROM truth.inventory UNION ALL SELECT * FROM truth.notifications;

-- Text with everything that is legal in it, mostly short, now and then large enough for TOAST.
CREATE FUNCTION workload.text(salt bigint) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN CASE
        WHEN salt % 401 = 0 THEN (SELECT string_agg(md5((salt + i)::text), ' ') FROM generate_series(1, 700) i)
        WHEN salt % 13 = 0 THEN E'quo"te \\ tab\t line\nend é € 😀 ' || salt
        ELSE md5(salt::text) || repeat('-', (salt % 190)::int)
    END;

-- The rows of one insert: the n-th row belongs to the aggregate keys[n modulo count of keys].
CREATE FUNCTION workload.rows(target text, keys int[], count int)
RETURNS TABLE (g int, key int, version bigint, salt bigint) LANGUAGE sql VOLATILE AS $$
    SELECT g, a.key, a.version + 1 + (g - 1) / cardinality(keys), a.version * 31 + a.key::bigint * 7919 + g
    FROM generate_series(1, count) g
    JOIN truth.aggregate a ON a.outbox = target AND a.key = keys[1 + (g - 1) % cardinality(keys)]
    ORDER BY g
$$;

CREATE FUNCTION workload.insert(target text, keys int[], count int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF target = 'inventory' THEN
        INSERT INTO inventory.outbox (aggregateid, type, payload, bucket, version)
        SELECT 'sku/' || key, 'inventory.' || CASE WHEN key % 2 = 0 THEN 'reserved' ELSE 'released' END,
            CASE WHEN salt % 97 = 0 THEN NULL WHEN salt % 89 = 0 THEN ''::bytea
                ELSE decode(md5(salt::text) || '00ff0a0d', 'hex') || convert_to(workload.text(salt), 'UTF8') END,
            CASE WHEN key >= 300000 THEN 2 ELSE key % 2 END, version
        FROM workload.rows(target, keys, count) ORDER BY g;
    ELSIF target = 'notifications' THEN
        INSERT INTO notifications.messages (kind, tenant, recipient, schema_version, correlation, body, version)
        SELECT 'com.example.notified', 'tenant' || key % 3, 'user-' || key, 1 + key % 2,
            CASE WHEN salt % 3 = 0 THEN md5(salt::text)::uuid END,
            CASE WHEN salt % 97 <> 0 THEN
                ('{ "n": 1.0000000000000000000000000' || salt || ', "text" : '
                    || to_json(workload.text(salt)) || ', "n" : [1,  2]}')::json END,
            version
        FROM workload.rows(target, keys, count) ORDER BY g;
    ELSIF target = 'orders' THEN
        INSERT INTO public.outbox (aggregatetype, aggregateid, type, payload, version)
        SELECT (ARRAY['order', 'cart', 'customer'])[1 + key % 3], 'é-' || key, 'com.example.order.changed.v1',
            CASE WHEN salt % 97 <> 0 THEN
                jsonb_build_object('salt', salt, 'text', workload.text(salt), 'list', jsonb_build_array(1, 2.50, NULL))
            END,
            version
        FROM workload.rows(target, keys, count) ORDER BY g;
    ELSE
        INSERT INTO payments.outbox_events (aggregate_type, aggregate_id, event_type, headers, payload, version)
        SELECT 'account', 'account-' || key, 'payment.' || (ARRAY['made', 'failed'])[1 + salt % 2],
            CASE WHEN salt % 5 <> 0 THEN jsonb_build_object(
                'traceparent', '00-' || md5(salt::text) || '-00f067aa0ba902b7-01', 'causationid', salt::text) END,
            CASE WHEN salt % 97 = 0 THEN NULL WHEN salt % 89 = 0 THEN '' ELSE workload.text(salt) END,
            version
        FROM workload.rows(target, keys, count) ORDER BY g;
    END IF;
END $$;

-- `count` committed events, dealt out over the aggregates `keys` of one outbox.
CREATE FUNCTION workload.emit(target text, keys int[], count int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO truth.aggregate (outbox, key) SELECT target, key FROM unnest(keys) key ORDER BY key
        ON CONFLICT DO NOTHING;
    PERFORM FROM truth.aggregate WHERE outbox = target AND key = ANY (keys) ORDER BY key FOR UPDATE;
    PERFORM workload.insert(target, keys, count);
    UPDATE truth.aggregate a
    SET version = version + count / cardinality(keys)
        + CASE WHEN place <= count % cardinality(keys) THEN 1 ELSE 0 END
    FROM unnest(keys) WITH ORDINALITY AS k (key, place)
    WHERE a.outbox = target AND a.key = k.key;
END $$;

-- The same in a savepoint that is kept.
CREATE FUNCTION workload.emit_nested(target text, keys int[], count int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM workload.emit(target, keys, count);
    EXCEPTION WHEN division_by_zero THEN RAISE;
    END;
END $$;

-- The same in a savepoint that is rolled back.
CREATE FUNCTION workload.emit_undone(target text, keys int[], count int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    BEGIN
        PERFORM workload.emit(target, keys, count);
        RAISE division_by_zero;
    EXCEPTION WHEN division_by_zero THEN NULL;
    END;
END $$;

CREATE FUNCTION workload.pick(size int, keys int) RETURNS int[] LANGUAGE sql VOLATILE AS $$
    SELECT array_agg(key ORDER BY key) FROM (
        SELECT DISTINCT (start + i) % keys AS key
        FROM (SELECT floor(random() * keys)::int AS start) s, generate_series(1, least(size, 7)) i) picked
$$;

-- One transaction's work. True: it is to be committed.
CREATE FUNCTION workload.step(worker int, size int, keys int) RETURNS bool LANGUAGE plpgsql AS $$
DECLARE
    dice float := random();
    targets text[] := ARRAY['inventory', 'notifications', 'orders', 'payments'];
    target text := targets[1 + floor(random() * 4)];
    picked int[] := workload.pick(size, keys);
BEGIN
    INSERT INTO workload.business (worker, note) VALUES (worker, 'not to be published');
    IF dice < 0.08 THEN
        PERFORM workload.emit(target, picked, size);
        RETURN false;
    ELSIF dice < 0.20 THEN
        PERFORM workload.emit(target, picked, greatest(1, size / 2));
        PERFORM workload.emit_undone(target, picked, size);
        IF size > 1 THEN PERFORM workload.emit(target, picked, size - size / 2); END IF;
    ELSIF dice < 0.30 THEN
        PERFORM workload.emit_nested(target, picked, size);
        PERFORM pg_logical_emit_message(true, 'not.ours', 'noise');
    ELSIF dice < 0.40 AND size >= 4 THEN
        FOREACH target IN ARRAY targets LOOP
            PERFORM workload.emit(target, picked, size / 4);
        END LOOP;
    ELSE
        PERFORM workload.emit(target, picked, size);
    END IF;
    RETURN true;
END $$;

-- `transactions` transactions of about `size` events each.
CREATE PROCEDURE workload.run(worker int, seed float, transactions int, size int, keys int DEFAULT 200)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM setseed(seed);
    FOR i IN 1..transactions LOOP
        IF workload.step(worker, size, keys) THEN COMMIT; ELSE ROLLBACK; END IF;
    END LOOP;
END $$;

-- Transactions of 1 to `size` events until truth.control says stop.
CREATE PROCEDURE workload.load(worker int, seed float, size int, pause float DEFAULT 0.002, keys int DEFAULT 200)
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM setseed(seed);
    WHILE NOT (SELECT stop FROM truth.control) LOOP
        IF workload.step(worker, 1 + floor(random() ^ 3 * size)::int, keys) THEN COMMIT; ELSE ROLLBACK; END IF;
        PERFORM pg_sleep(pause);
    END LOOP;
END $$;
