// Owns: which names of this host a request to the admin server may use.
// Must not know: HTTP beyond the form of the field Host.
import RelayCore

/// A page of a stranger in a browser on this machine reaches a loopback address too: under a name of the stranger's own,
/// which he lets resolve to it.
struct AdminHosts: Equatable, Sendable {
  /// In lower case, without a port. Nil: any.
  private let names: [String]?
  private let isLoopback: Bool

  /// - Parameters:
  ///   - names: `admin.hosts`, in lower case; empty where it is not set.
  ///   - configured: the host of `admin.listen`, as the operator wrote it.
  ///   - address: where the server listens, `127.0.0.1:9464`.
  init(_ names: [String], configured: String = "", listeningOn address: String) {
    isLoopback = LoopbackAddress.contains(Self.name(of: address))
    self.names = names.isEmpty && !isLoopback ? nil : names + [configured.lowercased()].filter { !$0.isEmpty }
  }

  /// - Parameter host: the field Host; nil where there is none, as in HTTP/1.0, which no browser speaks.
  func admits(_ host: String?) -> Bool {
    guard let host, let names else { return true }
    let name = Self.name(of: host)
    if names.contains(name) || LoopbackAddress.contains(name) { return true }
    // An address is what the probes of Kubernetes ask for, and no name that a stranger lets resolve to this host.
    return !isLoopback && Self.isAddress(name)
  }

  private static func isAddress(_ name: String) -> Bool {
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts.allSatisfy { UInt8($0) != nil }
      || name.hasPrefix("[") && name.hasSuffix("]")
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
