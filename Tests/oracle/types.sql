-- One outbox for each content mode whose attributes come from columns of every supported type, and the
-- truth about them.
SET client_min_messages = warning;
SET TIME ZONE 'Asia/Kolkata';
CREATE SCHEMA truth;
CREATE TABLE truth.setting (prefix text NOT NULL);
CREATE DOMAIN short_text AS varchar(40);
CREATE TYPE mood AS ENUM ('calm', 'größer');

CREATE TABLE public.typed (
    id int8 PRIMARY KEY,
    type varchar(80) NOT NULL,
    subject uuid,
    at timestamp,
    kind char(5),
    media text,
    payload bytea,
    a_bool bool, a_int2 int2, a_int4 int4, a_int8 int8, a_numeric numeric, a_text text, a_varchar varchar(10),
    a_uuid uuid, a_timestamptz timestamptz, a_timestamp timestamp, a_json json, a_jsonb jsonb, a_domain short_text,
    a_mood mood
);
CREATE TABLE public.typed_structured (LIKE public.typed INCLUDING ALL);
CREATE VIEW truth.rows AS
SELECT 'binary' AS mode, * FROM public.typed UNION ALL SELECT 'structured', * FROM public.typed_structured;

CREATE VIEW truth.event AS
SELECT
    '/typed/' || mode AS source, id::text AS id, prefix || '.' || mode || '.' || a_int2 AS topic,
    encode(convert_to(a_int8 || '/' || subject, 'UTF8'), 'hex') AS key,
    type, subject::text AS subject, (extract(epoch FROM at) * 1000000)::bigint AS time,
    CASE WHEN payload IS NOT NULL THEN coalesce(media, 'application/octet-stream') END AS datacontenttype,
    NULL::text AS dataschema,
    jsonb_strip_nulls(jsonb_build_object(
        'abool', a_bool::text, 'aint2', a_int2::text, 'aint4', a_int4::text, 'aint8', a_int8::text,
        'anumeric', a_numeric::text, 'atext', nullif(a_text, ''), 'avarchar', a_varchar, 'auuid', a_uuid::text,
        'atimestamptz', to_char(a_timestamptz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'atimestamp', to_char(a_timestamp, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'ajson', a_json::text, 'ajsonb', a_jsonb::text, 'adomain', a_domain::text, 'amood', a_mood::text)
    )::text AS extensions,
    mode, CASE WHEN mode = 'structured' THEN 'base64' END AS kind,
    encode(sha256(payload), 'hex') AS sha, id AS version
FROM truth.rows, truth.setting;

CREATE PROCEDURE truth.fill() LANGUAGE plpgsql AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['public.typed', 'public.typed_structured'] LOOP
        EXECUTE format($q$
            INSERT INTO %s VALUES
            (1, 'full', '00000000-0000-4000-8000-00000000abcd', '2024-02-29 23:59:59.123456', 'ab', NULL, '\x00ff0a',
                true, -32768, 2147483647, 9223372036854775807, 12345678901234567890.00012300, 'é😀 "q" \ ', 'v',
                'ABCDEF00-0000-4000-8000-000000000001', '2024-06-30 23:59:59.654321+05:30',
                '1999-12-31 00:00:00.000001', '{"a" : 1.0}', '{"b": [1, 2.50]}', 'domain', 'größer'),
            (2, 'limits', '00000000-0000-4000-8000-000000000002', '1970-01-01 00:00:00', '', 'image/png', '',
                false, 0, -2147483648, -9223372036854775808, -0.1, '', NULL,
                '00000000-0000-0000-0000-000000000000', '0001-01-01 00:00:00.000001Z', '9999-12-31 23:59:59.999999',
                '[]', 'null', 'x', 'calm'),
            (3, 'numbers', '00000000-0000-4000-8000-000000000003', '2000-01-01 00:00:00.5', NULL, 'text/plain',
                decode(repeat('61', 100000), 'hex'), NULL, 7, 1, 1, 1e20, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                NULL, NULL),
            (4, 'nulls', '00000000-0000-4000-8000-000000000004', '2024-01-01', NULL, NULL, NULL,
                NULL, 7, NULL, 1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
            (5, 'small', '00000000-0000-4000-8000-000000000005', '2024-01-01', NULL, 'application/x+json', '{"j":  1}',
                NULL, 7, 0, 1, 0.0001, 'NULL', '0', NULL, NULL, NULL, '"s"', '1e2', NULL, NULL),
            (6, 'numeric', '00000000-0000-4000-8000-000000000006', '2024-01-01', NULL, NULL, '\x01',
                NULL, 7, 0, 1, 10000, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
            (7, 'numeric', '00000000-0000-4000-8000-000000000007', '2024-01-01', NULL, NULL, '\x01',
                NULL, 7, 0, 1, 0.00, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
            (8, 'numeric', '00000000-0000-4000-8000-000000000008', '2024-01-01', NULL, NULL, '\x01',
                NULL, 7, 0, 1, 'NaN', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
        $q$, name);
    END LOOP;
END $$;
