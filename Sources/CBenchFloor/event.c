// Owns: the CloudEvents message of a row, byte for byte as outboxd writes it where no text needs an escape.
// Must not know: where rows come from and messages go to.
#include "floor.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static char *buffer;
static size_t capacity;
static size_t used;
static char sequence[26];
static char commit_time_text[40];
static size_t commit_time_size;
static uint32_t row_index;

static void hexadecimal(uint64_t value, int digits, char *target) {
  for (int position = digits - 1; position >= 0; position--, value >>= 4)
    target[position] = "0123456789abcdef"[value & 15];
}

void event_begin(uint64_t commit_lsn, int64_t commit_time) {
  // Postgres counts microseconds from 2000.
  time_t seconds = (time_t)(commit_time / 1000000 + 946684800);
  long fraction = (long)(commit_time % 1000000);
  struct tm parts;
  gmtime_r(&seconds, &parts);
  commit_time_size = strftime(commit_time_text, sizeof commit_time_text, "%Y-%m-%dT%H:%M:%S", &parts);
  commit_time_text[commit_time_size++] = '.';
  for (long unit = 100000; unit > 0; unit /= 10) {
    commit_time_text[commit_time_size++] = (char)('0' + fraction / unit);
    fraction %= unit;
  }
  commit_time_text[commit_time_size++] = 'Z';
  hexadecimal(commit_lsn, 16, sequence);
  sequence[16] = '-';
  row_index = 0;
}

void uuid_text(const unsigned char *bytes, char *target) {
  for (int index = 0; index < 16; index++) {
    if (index == 4 || index == 6 || index == 8 || index == 10) *target++ = '-';
    *target++ = "0123456789abcdef"[bytes[index] >> 4];
    *target++ = "0123456789abcdef"[bytes[index] & 15];
  }
}

static void append(const char *data, size_t size) {
  memcpy(buffer + used, data, size);
  used += size;
}

#define LITERAL(text) append(text, sizeof(text) - 1)

static struct event structured_event(const struct row *row) {
  size_t needed = 512 + row->identifier.size + row->source.size + row->type.size + row->aggregate.size +
                  row->payload.size;
  if (needed > capacity) {
    capacity = needed * 2;
    buffer = realloc(buffer, capacity);
    if (buffer == NULL) fail("no memory", "for a message");
  }
  used = 0;
  LITERAL("{\"specversion\":\"1.0\",\"id\":\"");
  append(row->identifier.data, row->identifier.size);
  LITERAL("\",\"source\":\"");
  append(row->source.data, row->source.size);
  LITERAL("\",\"type\":\"");
  append(row->type.data, row->type.size);
  LITERAL("\",\"subject\":\"");
  append(row->aggregate.data, row->aggregate.size);
  LITERAL("\",\"time\":\"");
  append(commit_time_text, commit_time_size);
  LITERAL("\",\"sequence\":\"");
  append(sequence, 25);
  LITERAL("\",\"datacontenttype\":\"application/json\",\"data\":");
  append(row->payload.data, row->payload.size);
  LITERAL("}");
  rd_kafka_headers_t *headers = rd_kafka_headers_new(1);
  rd_kafka_header_add(headers, "content-type", 12, "application/cloudevents+json; charset=UTF-8", 43);
  return (struct event){{buffer, used}, headers};
}

static struct event binary_event(const struct row *row) {
  rd_kafka_headers_t *headers = rd_kafka_headers_new(8);
  rd_kafka_header_add(headers, "content-type", 12, "application/json", 16);
  rd_kafka_header_add(headers, "ce_specversion", 14, "1.0", 3);
  rd_kafka_header_add(headers, "ce_id", 5, row->identifier.data, (ssize_t)row->identifier.size);
  rd_kafka_header_add(headers, "ce_source", 9, row->source.data, (ssize_t)row->source.size);
  rd_kafka_header_add(headers, "ce_type", 7, row->type.data, (ssize_t)row->type.size);
  rd_kafka_header_add(headers, "ce_subject", 10, row->aggregate.data, (ssize_t)row->aggregate.size);
  rd_kafka_header_add(headers, "ce_time", 7, commit_time_text, (ssize_t)commit_time_size);
  rd_kafka_header_add(headers, "ce_sequence", 11, sequence, 25);
  return (struct event){row->payload, headers};
}

struct event event_build(const struct row *row, bool structured) {
  hexadecimal(row_index++, 8, sequence + 17);
  return structured ? structured_event(row) : binary_event(row);
}
