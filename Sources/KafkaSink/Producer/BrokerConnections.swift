// Owns: how many brokers a producer is connected to, as librdkafka's threads tell it.
// Must not know: what follows from it.
import CRdkafka
import Glibc
import Synchronization

/// Told of each change of a broker's state, in place of reading librdkafka's statistics, which would take some 25 KB
/// for each topic.
final class BrokerConnections: Sendable {
  fileprivate static let name = "outboxd"

  /// librdkafka has a thread for each connection, on which its state changes. Host and port would not do: a bootstrap
  /// server and the broker that it turns out to be may be connected each by itself.
  private let connected = Mutex<Set<pthread_t>>([])

  private let attached = Atomic(false)

  /// librdkafka has begun to make a client of the configuration that was given to `watch`.
  var wereAttached: Bool { attached.load(ordering: .relaxed) }

  /// Connections that can be used. For any thread.
  var count: Int { connected.withLock(\.count) }

  /// Watches the client that is made of the configuration. This object must live as long as that client.
  func watch(_ configuration: OpaquePointer) {
    // SAFETY: not retained, see above; `noteState` turns it back.
    let this = Unmanaged.passUnretained(self).toOpaque()
    // It is refused only where something of that name watches already.
    rd_kafka_conf_interceptor_add_on_new(configuration, Self.name, watchStates, this)
  }

  fileprivate func noteAttached() { attached.store(true, ordering: .relaxed) }

  fileprivate func note(isConnected: Bool) {
    connected.withLock { connected in
      if isConnected {
        connected.insert(pthread_self())
      } else {
        connected.remove(pthread_self())
      }
    }
  }
}

/// Called while the client is made, before it has any broker.
private func watchStates(
  _ client: OpaquePointer?, _ configuration: OpaquePointer?, _ opaque: UnsafeMutableRawPointer?,
  _ text: UnsafeMutablePointer<CChar>?, _ textSize: Int
) -> rd_kafka_resp_err_t {
  // SAFETY: as in `noteState`.
  if let opaque { Unmanaged<BrokerConnections>.fromOpaque(opaque).takeUnretainedValue().noteAttached() }
  return rd_kafka_interceptor_add_on_broker_state_change(client, BrokerConnections.name, noteState, opaque)
}

/// Called on the thread of the broker, but with its first state on that of whoever adds it. librdkafka holds locks
/// meanwhile: it must not be called.
private func noteState(
  _ client: OpaquePointer?, _ brokerID: Int32, _ protocolName: UnsafePointer<CChar>?,
  _ name: UnsafePointer<CChar>?, _ port: Int32, _ state: UnsafePointer<CChar>?,
  _ opaque: UnsafeMutableRawPointer?
) -> rd_kafka_resp_err_t {
  // SAFETY: the text ends with NUL and lives during the call; the object lives as long as the client.
  guard let state, let opaque, strcmp(state, "INIT") != 0 else { return RD_KAFKA_RESP_ERR_NO_ERROR }
  let isConnected = strcmp(state, "UP") == 0 || strcmp(state, "UPDATE") == 0
  Unmanaged<BrokerConnections>.fromOpaque(opaque).takeUnretainedValue().note(isConnected: isConnected)
  return RD_KAFKA_RESP_ERR_NO_ERROR
}
