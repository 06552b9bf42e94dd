// Owns: what an operator says of the admin server.
// Must not know: sockets.

struct AdminSettings: Equatable, Sendable {
  /// A host name or address, without the brackets of IPv6. Empty: every address of the machine.
  var host = "127.0.0.1"
  /// 0 lets the system choose.
  var port: UInt16 = 9464

  /// As the configuration writes it.
  var text: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}
