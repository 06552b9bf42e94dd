// Owns: the replication stream and the loop: the reading pattern of outboxd, row by row to the producer, and
// the confirmation of what is acknowledged.
// Must not know: what a message looks like.
#include "floor.h"

#include <libpq-fe.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TURN = 1024, RELATIONS = 256, LOOKS = 6 };

static PGconn *connection;
static uint64_t received_bytes;
static uint64_t seen_lsn;
static uint64_t sent_lsn;
static int64_t sent_time;
static bool reply_requested;
static bool in_transaction;
static bool structured;
static volatile sig_atomic_t stop_requested;

static struct relation {
  uint32_t identifier;
  struct text source;
} relations[RELATIONS];
static int relation_count;
static struct relation *relation;

static void request_stop(int number) {
  (void)number;
  stop_requested = 1;
}

static uint64_t big64(const char *bytes) {
  uint64_t value;
  memcpy(&value, bytes, 8);
  return __builtin_bswap64(value);
}

static uint32_t big32(const char *bytes) {
  uint32_t value;
  memcpy(&value, bytes, 4);
  return __builtin_bswap32(value);
}

static void start(const struct options *options) {
  char conninfo[2048];
  snprintf(conninfo, sizeof conninfo, "%s replication=database application_name=floor", options->conninfo);
  connection = PQconnectdb(conninfo);
  if (PQstatus(connection) != CONNECTION_OK) fail("no connection", PQerrorMessage(connection));
  char command[1024];
  snprintf(command, sizeof command,
           "START_REPLICATION SLOT \"%s\" LOGICAL 0/0 (proto_version '1', publication_names '\"%s\"', "
           "messages 'false', binary 'true')",
           options->slot, options->publication);
  PGresult *result = PQexec(connection, command);
  if (PQresultStatus(result) != PGRES_COPY_BOTH) fail("no stream", PQerrorMessage(connection));
  PQclear(result);
  PQsetnonblocking(connection, 1);
  // Into a large window the server sends each row as a segment of its own: Sources/PostgresSource/ReceiveBuffer.swift.
  int size = 65536;
  setsockopt(PQsocket(connection), SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

// MARK: What comes in

static void take_relation(const char *bytes) {
  uint32_t identifier = big32(bytes);
  const char *schema = bytes + 4;
  const char *table = schema + strlen(schema) + 1;
  char *source;
  int size = asprintf(&source, "/%s/%s/%s", PQdb(connection), schema, table);
  if (size < 0 || relation_count == RELATIONS) fail("no room", "for a relation");
  relations[relation_count++] = (struct relation){identifier, {source, (size_t)size}};
}

static void take_insert(const char *bytes) {
  uint32_t identifier = big32(bytes);
  if (relation == NULL || relation->identifier != identifier)
    for (int index = 0; index < relation_count; index++)
      if (relations[index].identifier == identifier) relation = &relations[index];
  // id, aggregatetype, aggregateid, type, payload; all in binary format, none of them null.
  const char *position = bytes + 4 + 1 + 2;
  struct text values[5];
  for (int index = 0; index < 5; index++) {
    uint32_t size = big32(position + 1);
    values[index] = (struct text){position + 5, size};
    position += 5 + size;
  }
  char uuid[36];
  uuid_text((const unsigned char *)values[0].data, uuid);
  // The first byte of a jsonb is its version.
  struct row row = {.identifier = {uuid, 36},
                    .aggregate_type = values[1],
                    .aggregate = values[2],
                    .type = values[3],
                    .payload = {values[4].data + 1, values[4].size - 1},
                    .source = relation->source};
  producer_send(&row, structured);
}

static void take(const char *bytes) {
  if (bytes[0] == 'k') {
    uint64_t end = big64(bytes + 1);
    if (end > seen_lsn) seen_lsn = end;
    producer_advance(end);
    reply_requested |= bytes[17] != 0;
    return;
  }
  const char *message = bytes + 25;
  switch (message[0]) {
    case 'I':
      take_insert(message + 1);
      break;
    case 'B':
      event_begin(big64(message + 1), (int64_t)big64(message + 9));
      producer_open();
      in_transaction = true;
      break;
    case 'C': {
      uint64_t end = big64(message + 10);
      if (end > seen_lsn) seen_lsn = end;
      producer_close(end);
      in_transaction = false;
      break;
    }
    case 'R':
      take_relation(message + 1);
      break;
  }
}

static int bytes_waiting(void) {
  int waiting = 0;
  ioctl(PQsocket(connection), FIONREAD, &waiting);
  return waiting;
}

/// Those that wait among them; 0 where the system does not tell.
static int64_t bytes_received(void) {
  struct tcp_info info;
  socklen_t size = sizeof info;
  memset(&info, 0, sizeof info);
  getsockopt(PQsocket(connection), IPPROTO_TCP, TCP_INFO, &info, &size);
  return (int64_t)info.tcpi_bytes_received;
}

/// Empties the socket into libpq's buffer, as far as 2 MB. False if there was nothing.
static bool gather(void) {
  int waiting = bytes_waiting();
  if (waiting <= 0) return false;
  int64_t gathered = 0;
  int64_t start = bytes_received() - waiting;
  do {
    if (PQconsumeInput(connection) != 1) fail("the connection ended", PQerrorMessage(connection));
    gathered += waiting;
    waiting = bytes_waiting();
    if (waiting <= 0) break;
    int64_t position = bytes_received() - waiting;
    if (position - start > gathered) gathered = position - start;
  } while (gathered < 2000000);
  return true;
}

/// Reads until the socket is empty or the turn is over. True if there may be more.
static bool read_turn(void) {
  for (int count = 0; count < TURN;) {
    char *bytes = NULL;
    int size = PQgetCopyData(connection, &bytes, 1);
    if (size > 0) {
      received_bytes += (uint64_t)size + 5;
      take(bytes);
      PQfreemem(bytes);
      count++;
      continue;
    }
    if (size < 0) fail("the stream ended", PQerrorMessage(connection));
    if (!gather()) return false;
  }
  return true;
}

// MARK: What goes back

static void confirm(int64_t now) {
  uint64_t position = producer_checkpoint();
  if (position > seen_lsn) position = seen_lsn;
  if (position < sent_lsn) position = sent_lsn;
  int64_t age = now - sent_time;
  bool is_news = position > sent_lsn && age >= 100000000;
  if (!reply_requested && !is_news && age < 10000000000) return;
  char status[34] = {'r'};
  uint64_t value = __builtin_bswap64(position);
  for (int offset = 1; offset <= 17; offset += 8) memcpy(status + offset, &value, 8);
  PQputCopyData(connection, status, sizeof status);
  PQflush(connection);
  sent_lsn = position;
  sent_time = now;
  reply_requested = false;
}

static void wait_for_news(void) {
  struct pollfd entries[2] = {{PQsocket(connection), POLLIN, 0}, {producer_descriptor(), POLLIN, 0}};
  int timeout = producer_checkpoint() > sent_lsn ? 100 : 1000;
  poll(entries, 2, timeout);
  if (entries[0].revents & (POLLHUP | POLLERR)) fail("the connection ended", "by the server");
}

// MARK: The reading pattern

static double rate;
static int64_t window_start;
static uint64_t window_bytes;
static uint64_t round_start;
static int looks_left = LOOKS;

static void measure_rate(int64_t now) {
  int64_t elapsed = now - window_start;
  if (elapsed < 10000000) return;
  double current = (double)(received_bytes - window_bytes) * 1e9 / (double)elapsed;
  rate = elapsed > 1000000000 ? 0 : (rate + current) / 2;
  window_start = now;
  window_bytes = received_bytes;
}

/// The socket is empty. As Sources/RelayCore/ReadingPace.swift: while a backlog drains it is looked at a few times
/// more, then some milliseconds of rows are let gather; events that come singly share a nap; a round that brought
/// nothing ends in poll(2).
static void pause_reading(int64_t now) {
  uint64_t bytes = received_bytes - round_start;
  if (bytes == 0) {
    wait_for_news();
    return;
  }
  measure_rate(now);
  bool is_fast = rate > 20e6;
  if (is_fast && bytes < 500000 && looks_left > 0) {
    looks_left--;
    usleep(30);
    return;
  }
  round_start = received_bytes;
  looks_left = LOOKS;
  if (is_fast)
    usleep(15000);
  else if (in_transaction)
    usleep(100);
  else
    producer_hasten(rate > 1.5e6 ? 1000 : 2500);
}

int relay(struct options *options) {
  structured = options->structured;
  signal(SIGTERM, request_stop);
  signal(SIGINT, request_stop);
  prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0);
  producer_start(options->kafka, options->topic_prefix);
  start(options);
  bool told = false;
  while (!stop_requested) {
    producer_drain();
    int64_t now = monotonic_nanoseconds();
    confirm(now);
    if (!told && options->rows > 0 && producer_delivered() >= (uint64_t)options->rows) {
      printf("delivered %llu bytes %llu\n", (unsigned long long)producer_delivered(),
             (unsigned long long)received_bytes);
      fflush(stdout);
      told = true;
    }
    if (read_turn()) continue;
    pause_reading(now);
  }
  sent_time = 0;
  confirm(monotonic_nanoseconds());
  PQfinish(connection);
  producer_stop();
  return 0;
}
