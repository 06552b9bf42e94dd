// Owns: which addresses lead to this machine alone.
// Must not know: sockets, names that a resolver knows.

public enum LoopbackAddress {
  /// True for 127.0.0.0/8, ::1 and localhost, an IPv6 address with or without its brackets.
  public static func contains(_ host: String) -> Bool {
    var name = Substring(host.lowercased())
    if name.hasPrefix("["), name.hasSuffix("]") { name = name.dropFirst().dropLast() }
    if name.hasSuffix(".") { name = name.dropLast() }
    if name == "localhost" || name == "::1" { return true }
    let parts = name.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil && $0.first != "+" }
  }
}
