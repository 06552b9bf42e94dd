-- Where outboxd keeps its checkpoints: one row for each slot, written about once a second.
-- With it outboxd notices a slot that was moved, lost or created anew, and does not send again what the slot
-- forgot in a restart of Postgres.
CREATE SCHEMA IF NOT EXISTS outboxd;

CREATE TABLE IF NOT EXISTS outboxd.checkpoint (
  slot              text        NOT NULL PRIMARY KEY,
  -- Every transaction that ends at or below it is published.
  lsn               pg_lsn      NOT NULL,
  -- Every row visible in it is published; NULL until that is known of one. See pg_visible_in_snapshot.
  snapshot          text,
  system_identifier text        NOT NULL,
  timeline          bigint      NOT NULL,
  updated_at        timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Earlier checkpoints, one every ten seconds while events pass, for seven days.
CREATE TABLE IF NOT EXISTS outboxd.checkpoint_history (
  slot              text        NOT NULL,
  lsn               pg_lsn      NOT NULL,
  snapshot          text,
  system_identifier text        NOT NULL,
  timeline          bigint      NOT NULL,
  recorded_at       timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (slot, recorded_at)
);
