// Owns: the command line of the benchmark's C program: the floor, the sink's limit, the latency probe.
// Must not know: how they work.
#include "floor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void fail(const char *what, const char *why) {
  fprintf(stderr, "outboxd-bench-floor: %s: %s\n", what, why);
  exit(1);
}

int64_t monotonic_nanoseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void set_property(rd_kafka_conf_t *configuration, char *pair) {
  char reason[512];
  char *equals = strchr(pair, '=');
  if (equals == NULL) fail("-X wants property=value", pair);
  *equals = 0;
  if (rd_kafka_conf_set(configuration, pair, equals + 1, reason, sizeof reason) != RD_KAFKA_CONF_OK)
    fail("property refused", reason);
}

int main(int count, char **words) {
  struct options options = {.topic_prefix = "", .kafka = rd_kafka_conf_new()};
  const struct {
    const char *name;
    const char **target;
  } texts[] = {{"--conninfo", &options.conninfo},         {"--slot", &options.slot},
               {"--publication", &options.publication},   {"--samples", &options.samples},
               {"--topic-prefix", &options.topic_prefix}, {"--table", &options.table}};
  const struct {
    const char *name;
    long *target;
  } numbers[] = {{"--rows", &options.rows},       {"--rate", &options.rate},
                 {"--seconds", &options.seconds}, {"--connections", &options.connections},
                 {"--warm-up", &options.warm_up}, {"--payload", &options.payload}};
  const struct {
    const char *name;
    int (*body)(struct options *);
  } commands[] = {{"relay", relay}, {"sink", sink}, {"latency", latency}, {"first", first}};

  if (count < 2) fail("which one", "relay, sink, latency or first; outboxd-bench calls this program");
  for (int index = 2; index + 1 < count; index += 2) {
    char *value = words[index + 1];
    if (strcmp(words[index], "-X") == 0) {
      set_property(options.kafka, value);
      continue;
    }
    if (strcmp(words[index], "--mode") == 0) options.structured = strcmp(value, "structured") == 0;
    for (size_t entry = 0; entry < sizeof texts / sizeof *texts; entry++)
      if (strcmp(words[index], texts[entry].name) == 0) *texts[entry].target = value;
    for (size_t entry = 0; entry < sizeof numbers / sizeof *numbers; entry++)
      if (strcmp(words[index], numbers[entry].name) == 0) *numbers[entry].target = atol(value);
  }
  for (size_t entry = 0; entry < sizeof commands / sizeof *commands; entry++)
    if (strcmp(words[1], commands[entry].name) == 0) return commands[entry].body(&options);
  fail("no such command", words[1]);
}
