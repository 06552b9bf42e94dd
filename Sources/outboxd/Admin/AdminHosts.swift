// Owns: which names of this host a request to the admin server may use.
// Must not know: HTTP beyond the form of the field Host.
import RelayCore

/// A page of a stranger in a browser on this machine reaches a loopback address too: under a name of the stranger's own,
/// which he lets resolve to it.
struct AdminHosts: Equatable, Sendable {
  /// In lower case, without a port. Nil: any.
  private let names: [String]?
  private let admitsLoopback: Bool

  /// - Parameters:
  ///   - names: `admin.hosts`, in lower case; empty where it is not set.
  ///   - address: where the server listens, `127.0.0.1:9464`.
  init(_ names: [String], listeningOn address: String) {
    admitsLoopback = LoopbackAddress.contains(Self.name(of: address))
    self.names = names.isEmpty && !admitsLoopback ? nil : names
  }

  /// - Parameter host: the field Host; nil where there is none, as in HTTP/1.0, which no browser speaks.
  func admits(_ host: String?) -> Bool {
    guard let host, let names else { return true }
    let name = Self.name(of: host)
    return names.contains(name) || (admitsLoopback && LoopbackAddress.contains(name))
  }

  /// `[::1]:9464` and `[::1]` are `[::1]`, `Example:80` is `example`.
  static func name(of host: String) -> String {
    let host = host.lowercased()
    guard let colon = host.lastIndex(of: ":"), host[host.index(after: colon)...].allSatisfy(\.isNumber),
      host.hasPrefix("[") ? host[..<colon].hasSuffix("]") : !host[..<colon].contains(":")
    else { return host }
    return String(host[..<colon])
  }
}
