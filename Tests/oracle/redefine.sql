-- Changes of the outbox tables in the middle of the stream, with events between all of them.
SET client_min_messages = warning;

-- Columns come, go, and change their names.
ALTER TABLE public.outbox ADD COLUMN note text DEFAULT 'x';
SELECT workload.emit('orders', ARRAY[1, 2, 3], 9);
ALTER TABLE public.outbox RENAME COLUMN note TO remark;
SELECT workload.emit('orders', ARRAY[1, 2, 3], 9);
BEGIN;
SELECT workload.emit('orders', ARRAY[1, 2, 3], 9);
ALTER TABLE public.outbox DROP COLUMN remark, ADD COLUMN other int[];
SELECT workload.emit('orders', ARRAY[1, 2, 3], 9);
ROLLBACK;
BEGIN;
SELECT workload.emit('orders', ARRAY[1, 2, 3], 9);
ALTER TABLE public.outbox DROP COLUMN remark, ADD COLUMN created_at timestamptz;
SELECT workload.emit('orders', ARRAY[1, 2, 3], 9);
ALTER TABLE public.outbox DROP COLUMN created_at;
SELECT workload.emit('orders', ARRAY[1, 2, 3], 9);
COMMIT;
ALTER TABLE notifications.messages ADD COLUMN recorded int4range;
SELECT workload.emit('notifications', ARRAY[1, 2, 3], 9);
ALTER TABLE notifications.messages DROP COLUMN recorded;
SELECT workload.emit('notifications', ARRAY[1, 2, 3], 9);

-- A new partition, one that is detached and attached, and a table that is renamed and named back.
CREATE TABLE inventory.outbox_2 PARTITION OF inventory.outbox FOR VALUES IN (2);
SELECT workload.emit('inventory', ARRAY[1, 2, 300001], 9);
ALTER TABLE inventory.outbox DETACH PARTITION inventory.outbox_1;
ALTER TABLE inventory.outbox ATTACH PARTITION inventory.outbox_1 FOR VALUES IN (1);
SELECT workload.emit('inventory', ARRAY[1, 2, 300001], 9);

-- The table is dropped and made again, with its columns in another order.
SELECT workload.emit('payments', ARRAY[1, 2, 3], 9);
CREATE TABLE truth.kept AS SELECT * FROM truth.payments;
BEGIN;
DROP TABLE payments.outbox_events CASCADE;
CREATE TABLE payments.outbox_events (
    version bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    payload text,
    headers jsonb,
    event_type text NOT NULL,
    aggregate_id text NOT NULL,
    aggregate_type text NOT NULL,
    id bigint GENERATED ALWAYS AS IDENTITY (START WITH 10000000) PRIMARY KEY
);
ALTER TABLE payments.outbox_events OWNER TO service;
ALTER PUBLICATION outboxd ADD TABLE payments.outbox_events;
COMMIT;
SELECT workload.emit('payments', ARRAY[1, 2, 3], 9);

CREATE VIEW truth.event AS
SELECT * FROM truth.orders UNION ALL SELECT * FROM truth.kept
UNION ALL SELECT * FROM truth.inventory UNION ALL SELECT * FROM truth.notifications
UNION ALL SELECT
    '/payments', id::text, prefix || '.payments.' || aggregate_type,
    encode(convert_to(aggregate_id, 'UTF8'), 'hex'), event_type, aggregate_id, truth.microseconds(created_at),
    CASE WHEN payload IS NOT NULL THEN 'text/plain; charset=utf-8' END,
    'https://schemas.example/payments/' || event_type, headers::text, 'structured', 'text',
    encode(sha256(convert_to(payload, 'UTF8')), 'hex'), version
FROM payments.outbox_events, truth.setting;
