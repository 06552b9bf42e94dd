// Owns: the producer, its topics, the delivery reports, and which transactions are acknowledged as a whole.
// Must not know: Postgres. An LSN is a number to it.
#include "floor.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { TOPIC_SLOTS = 4096, TRANSACTIONS = 1 << 17 };

struct topic {
  rd_kafka_topic_t *handle;
  char *name;
  size_t size;
};

struct transaction {
  uint64_t end_lsn;
  uint32_t outstanding;
  bool closed;
};

static rd_kafka_t *client;
static rd_kafka_queue_t *queue;
static int descriptor;
static const char *prefix;
static struct topic topics[TOPIC_SLOTS];
static rd_kafka_vu_t arguments[8];

// Transaction `number` lies at `number % TRANSACTIONS`; those from `oldest` on are not acknowledged yet.
static struct transaction *ring;
static uint64_t oldest;
static uint64_t newest;
static uint64_t outstanding;
static uint64_t delivered;
static uint64_t checkpoint;

void producer_start(rd_kafka_conf_t *configuration, const char *topic_prefix) {
  char reason[512];
  prefix = topic_prefix;
  ring = calloc(TRANSACTIONS, sizeof *ring);
  if (ring == NULL) fail("no memory", "for transactions");
  rd_kafka_conf_set_events(configuration, RD_KAFKA_EVENT_DR | RD_KAFKA_EVENT_ERROR);
  client = rd_kafka_new(RD_KAFKA_PRODUCER, configuration, reason, sizeof reason);
  if (client == NULL) fail("no producer", reason);
  queue = rd_kafka_queue_get_main(client);
  descriptor = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  uint64_t one = 1;
  rd_kafka_queue_io_event_enable(queue, descriptor, &one, sizeof one);
  // The connection stands before anything comes, as outboxd's does.
  char *cluster = rd_kafka_clusterid(client, 5000);
  if (cluster != NULL) rd_kafka_mem_free(client, cluster);
  const rd_kafka_vtype_t types[] = {RD_KAFKA_VTYPE_RKT,      RD_KAFKA_VTYPE_PARTITION, RD_KAFKA_VTYPE_MSGFLAGS,
                                    RD_KAFKA_VTYPE_OPAQUE,   RD_KAFKA_VTYPE_VALUE,     RD_KAFKA_VTYPE_KEY,
                                    RD_KAFKA_VTYPE_TIMESTAMP, RD_KAFKA_VTYPE_HEADERS};
  for (int index = 0; index < 8; index++) arguments[index].vtype = types[index];
  arguments[1].u.i32 = RD_KAFKA_PARTITION_UA;
  arguments[2].u.i = RD_KAFKA_MSG_F_COPY;
}

int producer_descriptor(void) { return descriptor; }
uint64_t producer_delivered(void) { return delivered; }
uint64_t producer_checkpoint(void) { return checkpoint; }

uint64_t producer_advance(uint64_t lsn) {
  if (oldest == newest && lsn > checkpoint) checkpoint = lsn;
  return checkpoint;
}

static rd_kafka_topic_t *topic_of(struct text name) {
  uint32_t hash = 2166136261u;
  for (size_t index = 0; index < name.size; index++) hash = (hash ^ (unsigned char)name.data[index]) * 16777619u;
  struct topic *topic = &topics[hash % TOPIC_SLOTS];
  while (topic->handle != NULL) {
    if (topic->size == name.size && memcmp(topic->name, name.data, name.size) == 0) return topic->handle;
    if (++topic == topics + TOPIC_SLOTS) topic = topics;
  }
  size_t prefix_size = strlen(prefix);
  char *full = malloc(prefix_size + name.size + 1);
  if (full == NULL) fail("no memory", "for a topic");
  memcpy(full, prefix, prefix_size);
  memcpy(full + prefix_size, name.data, name.size);
  full[prefix_size + name.size] = 0;
  topic->handle = rd_kafka_topic_new(client, full, NULL);
  topic->name = full + prefix_size;
  topic->size = name.size;
  return topic->handle;
}

static void pop(void) {
  while (oldest < newest) {
    struct transaction *first = &ring[oldest % TRANSACTIONS];
    if (!first->closed || first->outstanding > 0) return;
    checkpoint = first->end_lsn;
    oldest++;
  }
}

void producer_open(void) {
  while (newest - oldest == TRANSACTIONS) producer_wait(100);
  ring[newest++ % TRANSACTIONS] = (struct transaction){0, 0, false};
}

void producer_close(uint64_t end_lsn) {
  struct transaction *last = &ring[(newest - 1) % TRANSACTIONS];
  last->end_lsn = end_lsn;
  last->closed = true;
  pop();
}

void producer_send(const struct row *row, bool structured) {
  struct event event = event_build(row, structured);
  arguments[0].u.rkt = topic_of(row->aggregate_type);
  arguments[3].u.ptr = (void *)(uintptr_t)(newest - 1);
  arguments[4].u.mem.ptr = (void *)event.value.data;
  arguments[4].u.mem.size = event.value.size;
  arguments[5].u.mem.ptr = (void *)row->aggregate.data;
  arguments[5].u.mem.size = row->aggregate.size;
  arguments[7].u.headers = event.headers;
  rd_kafka_error_t *error;
  while ((error = rd_kafka_produceva(client, arguments, 8)) != NULL) {
    rd_kafka_resp_err_t code = rd_kafka_error_code(error);
    if (code != RD_KAFKA_RESP_ERR__QUEUE_FULL) fail("not produced", rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
    // Some room first, as outboxd does.
    uint64_t limit = outstanding - outstanding / 4 - 1;
    while (outstanding > limit) producer_wait(1000);
  }
  outstanding++;
  ring[(newest - 1) % TRANSACTIONS].outstanding++;
}

void producer_drain(void) {
  uint64_t count;
  ssize_t cleared = read(descriptor, &count, sizeof count);
  (void)cleared;
  rd_kafka_event_t *event;
  while ((event = rd_kafka_queue_poll(queue, 0)) != NULL) {
    const rd_kafka_message_t *message;
    while ((message = rd_kafka_event_message_next(event)) != NULL) {
      if (message->err != 0) fail("not delivered", rd_kafka_err2str(message->err));
      outstanding--;
      delivered++;
      ring[(uintptr_t)message->_private % TRANSACTIONS].outstanding--;
    }
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_ERROR && rd_kafka_event_error_is_fatal(event))
      fail("producer", rd_kafka_event_error_string(event));
    rd_kafka_event_destroy(event);
  }
  pop();
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  arguments[6].u.i64 = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void producer_wait(int milliseconds) {
  struct pollfd entry = {descriptor, POLLIN, 0};
  poll(&entry, 1, milliseconds);
  producer_drain();
}

void producer_hasten(int microseconds) {
  static int unslept;
  if (outstanding > 0) {
    unslept += microseconds;
    rd_kafka_flush(client, unslept / 1000);
    unslept %= 1000;
  } else {
    usleep((useconds_t)microseconds);
  }
}

void producer_stop(void) {
  for (int index = 0; index < TOPIC_SLOTS; index++)
    if (topics[index].handle != NULL) rd_kafka_topic_destroy(topics[index].handle);
  rd_kafka_queue_io_event_enable(queue, -1, NULL, 0);
  rd_kafka_queue_destroy(queue);
  rd_kafka_destroy(client);
}
