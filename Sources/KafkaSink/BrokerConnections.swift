// Owns: how many brokers a producer is connected to, as librdkafka's threads tell it.
// Must not know: what follows from it.
import CRdkafka
import Synchronization

/// Told of each change. librdkafka's statistics say the same, and take some 25 KB for each topic.
final class BrokerConnections: Sendable {
  private struct Broker: Hashable {
    let name: String
    let port: Int32
  }

  private let connected = Mutex<Set<Broker>>([])
  private let number = Atomic<Int>(0)

  /// Brokers that are connected and have let outboxd in. For any thread.
  var count: Int { number.load(ordering: .relaxed) }

  /// Watches the client that is made of the configuration. This object must live as long as that client.
  func watch(_ configuration: OpaquePointer) {
    // SAFETY: not retained, see above; `noteState` turns it back.
    let this = Unmanaged.passUnretained(self).toOpaque()
    rd_kafka_conf_interceptor_add_on_new(configuration, Self.watcher, watchStates, this)
  }

  fileprivate static let watcher = "outboxd"

  /// - Parameter name: the host as it was first told, which stays the same where a bootstrap server turns out to be one
  ///   of the cluster's brokers.
  fileprivate func note(name: String, port: Int32, isConnected: Bool) {
    connected.withLock { connected in
      if isConnected {
        connected.insert(Broker(name: name, port: port))
      } else {
        connected.remove(Broker(name: name, port: port))
      }
      number.store(connected.count, ordering: .relaxed)
    }
  }
}

/// Called while the client is made, before it has any broker.
private func watchStates(
  _ client: OpaquePointer?, _ configuration: OpaquePointer?, _ opaque: UnsafeMutableRawPointer?,
  _ text: UnsafeMutablePointer<CChar>?, _ textSize: Int
) -> rd_kafka_resp_err_t {
  rd_kafka_interceptor_add_on_broker_state_change(client, BrokerConnections.watcher, noteState, opaque)
}

/// Called on librdkafka's threads, which hold locks: it must not call librdkafka.
private func noteState(
  _ client: OpaquePointer?, _ brokerID: Int32, _ protocolName: UnsafePointer<CChar>?,
  _ name: UnsafePointer<CChar>?, _ port: Int32, _ state: UnsafePointer<CChar>?,
  _ opaque: UnsafeMutableRawPointer?
) -> rd_kafka_resp_err_t {
  guard let name, let state, let opaque else { return RD_KAFKA_RESP_ERR_NO_ERROR }
  // SAFETY: both texts live during the call, and are copied; the object lives as long as the client.
  let isConnected = ["UP", "UPDATE"].contains(String(cString: state))
  Unmanaged<BrokerConnections>.fromOpaque(opaque).takeUnretainedValue()
    .note(name: String(cString: name), port: port, isConnected: isConnected)
  return RD_KAFKA_RESP_ERR_NO_ERROR
}
