#include <stdint.h>
#include <sys/prctl.h>
#include <sys/types.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <microhttpd.h>

/// MHD_start_daemon has variable arguments. The daemon neither listens nor has a thread: whoever starts it
/// accepts connections and calls MHD_run. `memory` is in bytes for each connection, `timeout` in seconds.
static inline struct MHD_Daemon *outboxd_start_daemon(
    MHD_AccessHandlerCallback answer, MHD_NotifyConnectionCallback notify, void *context,
    unsigned int connections, size_t memory, unsigned int timeout) {
  return MHD_start_daemon(
      MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, answer, context,
      MHD_OPTION_CONNECTION_LIMIT, connections,
      MHD_OPTION_CONNECTION_MEMORY_LIMIT, memory,
      MHD_OPTION_CONNECTION_TIMEOUT, timeout,
      MHD_OPTION_NOTIFY_CONNECTION, notify, context,
      MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
      MHD_OPTION_END);
}

/// The descriptor of a connection, or -1.
static inline int outboxd_connection_descriptor(struct MHD_Connection *connection) {
  const union MHD_ConnectionInfo *info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  return info == NULL ? -1 : info->connect_fd;
}

/// The descriptor that is readable when MHD_run has work, or -1.
static inline int outboxd_daemon_descriptor(struct MHD_Daemon *daemon) {
  const union MHD_DaemonInfo *info = MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_EPOLL_FD);
  return info == NULL ? -1 : info->epoll_fd;
}

// Declared by the C library only for _GNU_SOURCE, which Swift's importer does not define.
extern int accept4(int descriptor, struct sockaddr *address, socklen_t *length, int flags);

/// Names the calling thread, for ps and top. At most 15 bytes.
static inline void outboxd_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }
