// What Swift cannot import from the C library by itself: headers that the Glibc module leaves out,
// and functions with variable arguments.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

/// Bytes that wait in the socket's receive buffer, or -1 with errno set.
static inline int outboxd_bytes_waiting(int descriptor) {
  int count = 0;
  return ioctl(descriptor, FIONREAD, &count) == 0 ? count : -1;
}

/// Sets the timer slack of the calling thread, in nanoseconds.
static inline int outboxd_set_timer_slack(unsigned long nanoseconds) {
  return prctl(PR_SET_TIMERSLACK, nanoseconds, 0, 0, 0);
}

/// Names the calling thread, at most 15 bytes, as `top -H` shows it.
static inline int outboxd_set_thread_name(const char *name) {
  return prctl(PR_SET_NAME, name, 0, 0, 0);
}
