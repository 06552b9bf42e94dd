// Owns: latency from the INSERT's return to a consumer's hands, under a load that does not wait for anybody
// (open loop); and the moment at which a first message comes.
// Must not know: which relay is in between.
#include "floor.h"

#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct options *settings;
static long total;
static int64_t begin;
// By the number of the event. Zero: not yet.
static int64_t *returned;
static int64_t *late;
static int64_t *consumed;
static char *payload;

static rd_kafka_t *consumer_start(const struct options *options) {
  char reason[512];
  rd_kafka_conf_set(options->kafka, "group.id", "outboxd-bench", reason, sizeof reason);
  rd_kafka_conf_set(options->kafka, "enable.auto.commit", "false", reason, sizeof reason);
  rd_kafka_conf_set(options->kafka, "fetch.wait.max.ms", "20", reason, sizeof reason);
  rd_kafka_conf_set(options->kafka, "fetch.error.backoff.ms", "5", reason, sizeof reason);
  rd_kafka_t *client = rd_kafka_new(RD_KAFKA_CONSUMER, options->kafka, reason, sizeof reason);
  if (client == NULL) fail("no consumer", reason);
  rd_kafka_poll_set_consumer(client);
  rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
  // The topic is new, and has the four partitions that outboxd-bench gave it.
  for (int partition = 0; partition < 4; partition++)
    rd_kafka_topic_partition_list_add(list, options->topic_prefix, partition)->offset = 0;
  rd_kafka_assign(client, list);
  // An answer from every partition's leader means that the first fetch is under way.
  for (int partition = 0; partition < 4; partition++) {
    int64_t low, high;
    rd_kafka_resp_err_t error =
        rd_kafka_query_watermark_offsets(client, options->topic_prefix, partition, &low, &high, 10000);
    if (error != 0) fail("the topic has no offsets", rd_kafka_err2str(error));
  }
  rd_kafka_topic_partition_list_destroy(list);
  return client;
}

static rd_kafka_message_t *next_message(rd_kafka_t *client, int milliseconds) {
  rd_kafka_message_t *message = rd_kafka_consumer_poll(client, milliseconds);
  if (message != NULL && message->err == 0) return message;
  if (message != NULL) rd_kafka_message_destroy(message);
  return NULL;
}

int first(struct options *options) {
  rd_kafka_t *client = consumer_start(options);
  printf("ready\n");
  fflush(stdout);
  rd_kafka_message_t *message;
  while ((message = next_message(client, 1000)) == NULL) {
  }
  printf("first %lld\n", (long long)monotonic_nanoseconds());
  fflush(stdout);
  rd_kafka_message_destroy(message);
  rd_kafka_consumer_close(client);
  return 0;
}

static atomic_long seen;
static atomic_bool load_ended;
static int64_t load_end;

static void *consume(void *context) {
  rd_kafka_t *client = context;
  // What is missing ten seconds after the last INSERT is lost.
  while (seen < total && !(load_ended && monotonic_nanoseconds() > load_end + 10000000000)) {
    rd_kafka_message_t *message = next_message(client, 100);
    if (message == NULL) continue;
    int64_t now = monotonic_nanoseconds();
    char number[24] = "";
    if (message->key_len < sizeof number) memcpy(number, message->key, message->key_len);
    long index = atol(number);
    if (index >= 0 && index < total && consumed[index] == 0) {
      consumed[index] = now;
      seen++;
    }
    rd_kafka_message_destroy(message);
  }
  return NULL;
}

static void *insert(void *context) {
  long worker = (long)(intptr_t)context;
  PGconn *connection = PQconnectdb(settings->conninfo);
  if (PQstatus(connection) != CONNECTION_OK) fail("no connection", PQerrorMessage(connection));
  char statement[512];
  snprintf(statement, sizeof statement,
           "INSERT INTO %s (aggregatetype, aggregateid, type, payload) "
           "VALUES ('order', $1, 'OrderPlaced', $2::jsonb)",
           settings->table);
  PQclear(PQprepare(connection, "insert", statement, 2, NULL));
  PQclear(PQexec(connection, "SET synchronous_commit = on"));
  for (long index = worker; index < total; index += settings->connections) {
    int64_t due = begin + (int64_t)((double)index * 1e9 / (double)settings->rate);
    struct timespec time = {due / 1000000000, due % 1000000000};
    if (monotonic_nanoseconds() < due) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL);
    late[index] = monotonic_nanoseconds() - due;
    char number[24];
    snprintf(number, sizeof number, "%ld", index);
    const char *values[] = {number, payload};
    PGresult *result = PQexecPrepared(connection, "insert", 2, values, NULL, NULL, 0);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) fail("not inserted", PQerrorMessage(connection));
    returned[index] = monotonic_nanoseconds();
    PQclear(result);
  }
  PQfinish(connection);
  return NULL;
}

static int compare(const void *left, const void *right) {
  int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
  return (a > b) - (a < b);
}

static double milliseconds(const int64_t *sorted, long count, double quantile) {
  if (count == 0) return -1;
  long index = (long)(quantile * (double)count);
  return (double)sorted[index < count ? index : count - 1] / 1e6;
}

/// `latency p50 p99 p99.9 max ms, events lost, events/s reached, p99 of lateness ms`, on one line.
static void report(void) {
  long skipped = settings->warm_up * settings->rate, count = 0, lost = 0;
  int64_t *sorted = malloc((size_t)total * sizeof *sorted);
  if (sorted == NULL) fail("no memory", "for the latencies");
  int64_t last = 0;
  for (long index = 0; index < total; index++) {
    if (returned[index] > last) last = returned[index];
    if (consumed[index] == 0) {
      lost++;
    } else if (index >= skipped) {
      // The consumer may have it before the INSERT's return has been seen.
      int64_t latency = consumed[index] - returned[index];
      sorted[count++] = latency > 0 ? latency : 0;
    }
  }
  qsort(sorted, (size_t)count, sizeof *sorted, compare);
  qsort(late, (size_t)total, sizeof *late, compare);
  printf("latency %.3f %.3f %.3f %.3f %ld %.0f %.3f\n", milliseconds(sorted, count, 0.5),
         milliseconds(sorted, count, 0.99), milliseconds(sorted, count, 0.999), milliseconds(sorted, count, 1),
         lost, (double)total * 1e9 / (double)(last - begin), milliseconds(late, total, 0.99));
  fflush(stdout);
}

int latency(struct options *options) {
  settings = options;
  total = options->rate * (options->warm_up + options->seconds);
  returned = calloc((size_t)total, sizeof *returned);
  late = calloc((size_t)total, sizeof *late);
  consumed = calloc((size_t)total, sizeof *consumed);
  pthread_t *workers = calloc((size_t)options->connections, sizeof *workers);
  payload = malloc((size_t)options->payload + 64);
  if (!returned || !late || !consumed || !workers || !payload) fail("no memory", "for the latencies");
  int size = sprintf(payload, "{\"number\": 1, \"text\": \"");
  while (size < options->payload - 2) payload[size++] = "0123456789abcdef"[rand() & 15];
  strcpy(payload + size, "\"}");

  rd_kafka_t *client = consumer_start(options);
  pthread_t reader;
  pthread_create(&reader, NULL, consume, client);
  // Time for the connections, before the first INSERT is due.
  begin = monotonic_nanoseconds() + 500000000;
  printf("started\n");
  fflush(stdout);
  for (long worker = 0; worker < options->connections; worker++)
    pthread_create(&workers[worker], NULL, insert, (void *)(intptr_t)worker);
  for (long worker = 0; worker < options->connections; worker++) pthread_join(workers[worker], NULL);
  load_end = monotonic_nanoseconds();
  load_ended = true;
  printf("loaded\n");
  fflush(stdout);
  pthread_join(reader, NULL);
  report();
  rd_kafka_consumer_close(client);
  return 0;
}
