// Owns: the sink's limit: librdkafka alone, with the messages of sample rows from a file, as fast as it goes.
// Must not know: Postgres.
#include "floor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct row *rows;
static size_t row_count;

/// Lines of five texts between tabs, as COPY writes them: id, aggregatetype, aggregateid, type, payload.
static void load(const char *path) {
  FILE *file = fopen(path, "r");
  if (file == NULL) fail("cannot be opened", path);
  char *line = NULL;
  size_t capacity = 0;
  ssize_t size;
  while ((size = getline(&line, &capacity, file)) > 0) {
    rows = realloc(rows, (row_count + 1) * sizeof *rows);
    char *copy = strndup(line, (size_t)size - 1);
    if (rows == NULL || copy == NULL) fail("no memory", "for sample rows");
    struct text fields[5];
    for (int index = 0; index < 5; index++) {
      char *field = strsep(&copy, "\t");
      if (field == NULL) fail("too few columns", path);
      fields[index] = (struct text){field, strlen(field)};
    }
    rows[row_count++] = (struct row){fields[0], fields[1], fields[2], fields[3], fields[4],
                                     {"/postgres/bench/outbox", 22}};
  }
  free(line);
  fclose(file);
  if (row_count == 0) fail("no sample rows", path);
}

int sink(struct options *options) {
  load(options->samples);
  producer_start(options->kafka, options->topic_prefix);
  printf("started\n");
  fflush(stdout);
  for (long index = 0; index < options->rows; index++) {
    if (index % 100 == 0) {
      if (index > 0) producer_close((uint64_t)index);
      if (index % 1000 == 0) producer_drain();
      event_begin((uint64_t)index, index);
      producer_open();
    }
    producer_send(&rows[(size_t)index % row_count], options->structured);
  }
  while (producer_delivered() < (uint64_t)options->rows) producer_wait(1000);
  printf("delivered %ld bytes 0\n", options->rows);
  fflush(stdout);
  // Lives on, so that its figures can be read, until it is killed.
  pause();
  return 0;
}
