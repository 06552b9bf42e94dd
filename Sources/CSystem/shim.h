// What Swift cannot import from the C library by itself: headers that the Glibc module leaves out,
// and functions with variable arguments.
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

/// Of <spawn.h>, since glibc 2.34, where _GNU_SOURCE is defined: the new program gets no descriptor from this one on.
extern int posix_spawn_file_actions_addclosefrom_np(posix_spawn_file_actions_t *actions, int first);

/// Bytes that wait in the socket's receive buffer, or -1 with errno set.
static inline int outboxd_bytes_waiting(int descriptor) {
  int count = 0;
  return ioctl(descriptor, FIONREAD, &count) == 0 ? count : -1;
}

/// Places in `tcp_info` of linux/tcp.h, in words: that struct cannot be imported beside the C library's shorter one of
/// the same name.
enum { OUTBOXD_BYTES_RECEIVED = 32, OUTBOXD_SHORTEST_ROUND_TRIP = 37, OUTBOXD_TCP_INFO_WORDS };

/// What Linux knows of a TCP connection; -1 for another kind of socket, and before Linux 4.6.
static inline int outboxd_tcp_info(int descriptor, uint32_t info[OUTBOXD_TCP_INFO_WORDS]) {
  socklen_t size = OUTBOXD_TCP_INFO_WORDS * sizeof *info;
  if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, info, &size) != 0) return -1;
  return size < OUTBOXD_TCP_INFO_WORDS * sizeof *info ? -1 : 0;
}

/// The shortest round trip of a TCP connection so far, in microseconds; -1 as `outboxd_tcp_info`.
static inline long outboxd_shortest_round_trip(int descriptor) {
  uint32_t info[OUTBOXD_TCP_INFO_WORDS];
  return outboxd_tcp_info(descriptor, info) == 0 ? (long)info[OUTBOXD_SHORTEST_ROUND_TRIP] : -1;
}

/// Bytes that a TCP connection has received, those that wait to be read among them; -1 as `outboxd_tcp_info`.
static inline int64_t outboxd_bytes_received(int descriptor) {
  uint32_t info[OUTBOXD_TCP_INFO_WORDS];
  if (outboxd_tcp_info(descriptor, info) != 0) return -1;
  int64_t count;
  memcpy(&count, info + OUTBOXD_BYTES_RECEIVED, sizeof count);
  return count;
}

/// Fixes the socket's receive buffer at twice so many bytes, as socket(7) has it.
static inline int outboxd_fix_receive_buffer(int descriptor, int bytes) {
  return setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
}

/// Lets the system size the socket's receive buffer again. -1 before Linux 5.14.
static inline int outboxd_free_receive_buffer(int descriptor) {
#ifndef SO_BUF_LOCK
#define SO_BUF_LOCK 72
#endif
  int locks = 0;
  return setsockopt(descriptor, SOL_SOCKET, SO_BUF_LOCK, &locks, sizeof locks);
}

/// Sets the timer slack of the calling thread, in nanoseconds.
static inline int outboxd_set_timer_slack(unsigned long nanoseconds) {
  return prctl(PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0);
}

/// Names the calling thread, at most 15 bytes, as `top -H` shows it.
static inline int outboxd_set_thread_name(const char *name) {
  return prctl(PR_SET_NAME, name, 0, 0, 0);
}

/// Blocks SIGTERM, SIGINT and SIGHUP in the calling thread and those it starts, and returns a descriptor that is
/// readable when one has come, or -1 with errno set.
static inline int outboxd_watch_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  if (pthread_sigmask(SIG_BLOCK, &set, 0) != 0) return -1;
  return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/// Blocks the same signals as `outboxd_watch_signals`, so that one that comes before it waits, also for process 1, for
/// whom the system drops what has no handler.
static inline void outboxd_block_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &set, 0);
}

/// Gives the signals of `outboxd_watch_signals` their usual meaning again, in the calling thread.
static inline void outboxd_unblock_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  pthread_sigmask(SIG_UNBLOCK, &set, 0);
}

/// The number of the next signal that has come, or 0.
static inline int outboxd_next_signal(int descriptor) {
  struct signalfd_siginfo info;
  return read(descriptor, &info, sizeof info) == sizeof info ? (int)info.ssi_signo : 0;
}

/// Gives a process that is to be started no blocked signals, and SIGPIPE's usual meaning.
static inline void outboxd_reset_spawn_signals(posix_spawnattr_t *attributes) {
  sigset_t set;
  sigemptyset(&set);
  posix_spawnattr_setsigmask(attributes, &set);
  sigaddset(&set, SIGPIPE);
  posix_spawnattr_setsigdefault(attributes, &set);
}
