// Owns: what the files of the floor share. The floor is the least that a relay must do, in C: receive, build
// the message, produce, confirm. It trusts its own Postgres, checks nothing, and serves only as a yardstick.
#ifndef OUTBOXD_BENCH_FLOOR_H
#define OUTBOXD_BENCH_FLOOR_H

#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text {
  const char *data;
  size_t size;
};

/// The columns of an outbox row, lent from the received message.
struct row {
  struct text identifier;
  struct text aggregate_type;
  struct text aggregate;
  struct text type;
  struct text payload;
  /// `/{database}/{schema}/{table}`.
  struct text source;
};

/// The command line: `--name value` pairs, and `-X property=value` for librdkafka.
struct options {
  const char *conninfo;
  const char *slot;
  const char *publication;
  const char *topic_prefix;
  const char *samples;
  const char *table;
  bool structured;
  long rows;
  long rate;
  long seconds;
  long warm_up;
  long connections;
  long payload;
  rd_kafka_conf_t *kafka;
};

void fail(const char *what, const char *why) __attribute__((noreturn));
int64_t monotonic_nanoseconds(void);

int relay(struct options *options);
int sink(struct options *options);
int latency(struct options *options);
int first(struct options *options);

// event.c
struct event {
  struct text value;
  rd_kafka_headers_t *headers;
};
void event_begin(uint64_t commit_lsn, int64_t commit_time);
struct event event_build(const struct row *row, bool structured);
void uuid_text(const unsigned char *bytes, char *target);

// producer.c
void producer_start(rd_kafka_conf_t *configuration, const char *topic_prefix);
int producer_descriptor(void);
void producer_open(void);
void producer_send(const struct row *row, bool structured);
void producer_close(uint64_t end_lsn);
/// Takes the delivery reports that wait.
void producer_drain(void);
void producer_wait(int milliseconds);
/// Sends at once what lingers, and sleeps that long.
void producer_hasten(int microseconds);
uint64_t producer_delivered(void);
/// Everything that ends at or below it is acknowledged.
uint64_t producer_checkpoint(void);
uint64_t producer_advance(uint64_t lsn);
void producer_stop(void);

#endif
